"""A C++ program beside Python: start-up, memory and the cost of the wrapper."""
