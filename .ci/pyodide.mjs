// Runs the unit tests in Pyodide, a CPython in WebAssembly, which has no threads.
// Usage: node pyodide.mjs SITE_PACKAGES PROJECT

import { loadPyodide } from "pyodide";

const [sitePackages, project] = process.argv.slice(2);
const pyodide = await loadPyodide();
pyodide.mountNodeFS("/site", sitePackages);
pyodide.mountNodeFS("/project", project);
process.exitCode = pyodide.runPython(`
import os, sys
os.chdir("/project")
sys.path.insert(0, "/site")
import pytest
int(pytest.main(["tests/unit", "-p", "no:cacheprovider"]))
`);
