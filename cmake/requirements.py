"""Print all packages that pyproject.toml requires: for the build, to run, and for every extra."""

import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    metadata = tomllib.load(file)
project = metadata["project"]
extras = project["optional-dependencies"]
packages = metadata["build-system"]["requires"] + project["dependencies"]
print("\n".join(dict.fromkeys(packages + [p for extra in extras.values() for p in extra])))
