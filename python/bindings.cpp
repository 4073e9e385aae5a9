#include <cstring>

#include "bind.h"
#include "model/interrupt.h"

using namespace py::literals;

namespace {

// Sets the Python exception for a C++ error. An error of torch without a Python counterpart becomes
// RuntimeError.
void translate(std::exception_ptr error) {
  try {
    if (error) {
      std::rethrow_exception(error);
    }
  } catch (const dsm_ext::Error& e) {
    // The text may hold the name of a file, which need not be valid UTF-8.
    const auto text = py::reinterpret_steal<py::object>(
        PyUnicode_DecodeUTF8(e.what(), std::strlen(e.what()), "surrogateescape"));
    PyErr_SetObject(PyExc_ValueError, text.ptr());
  } catch (const c10::ValueError& e) {
    PyErr_SetString(PyExc_ValueError, e.what_without_backtrace());
  } catch (const c10::TypeError& e) {
    PyErr_SetString(PyExc_TypeError, e.what_without_backtrace());
  } catch (const c10::IndexError& e) {
    PyErr_SetString(PyExc_IndexError, e.what_without_backtrace());
  } catch (const c10::NotImplementedError& e) {
    PyErr_SetString(PyExc_NotImplementedError, e.what_without_backtrace());
  } catch (const c10::OutOfMemoryError& e) {
    const auto kind = py::module_::import("torch").attr("OutOfMemoryError");
    PyErr_SetString(kind.ptr(), e.what_without_backtrace());
  } catch (const py::cast_error& e) {
    PyErr_SetString(PyExc_TypeError, e.what());
  } catch (const c10::Error& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what_without_backtrace());
  }
}

// Python runs signal handlers only on its main thread.
unsigned long main_thread = 0;

// Lets a pending signal, for instance Ctrl-C, end a long call. On threads other than Python's main
// thread it does nothing, so that they need not wait for the GIL.
void check_signals() {
  if (PyThread_get_thread_ident() != main_thread) {
    return;
  }
  const py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) {
    throw py::error_already_set();
  }
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  py::register_local_exception_translator(&translate);
  bind_config(m);
  bind_schedule(m);
  bind_plan(m);
  bind_model(m);
  bind_module_tree(m);
  bind_load(m);
  bind_build_info(m);
  main_thread =
      py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
  dsm_ext::set_interrupt_check(&check_signals);
}
