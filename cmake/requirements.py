"""Prints every package that pyproject.toml names, the extras among them."""

import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    metadata = tomllib.load(file)
project = metadata["project"]
extras = project["optional-dependencies"]
packages = metadata["build-system"]["requires"] + project["dependencies"]
print("\n".join(dict.fromkeys(packages + [p for extra in extras.values() for p in extra])))
