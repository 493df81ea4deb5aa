"""Shows that the image has what its spec says."""

import os
import sys

import numpy
import pandas
import yaml

frame = pandas.DataFrame({"name": ["Tom", "Joseph"], "age": [1, 22]})
print(os.environ["GREETING"], "from Python", sys.version.split()[0], "in", sys.prefix)
print("numpy", numpy.__version__, "pandas", pandas.__version__, "yaml", yaml.__version__)
print("mean age", frame["age"].mean())
