"""A script that tries what a container must not allow, and prints what became of it."""

PROBE = """
import os, pathlib, socket
def tried(what, action):
    try:
        action()
    except OSError as error:
        print(what, error.strerror)
    else:
        print(what, "done")
tried("network", lambda: socket.create_connection(("192.0.2.1", 80), 3))
code = os.path.dirname(os.environ["SAMEBITS_OUTPUT"]) + "/code"
for folder in ("/", "/work", "/data", "/opt/samebits", "/runs", code):
    tried(folder, lambda: pathlib.Path(folder, "new").touch())
tried("/tmp", lambda: pathlib.Path("/tmp/new").touch())
tried("outputs", lambda: pathlib.Path(os.environ["SAMEBITS_OUTPUT"], "new").touch())
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print("capabilities", status["CapEff"].strip(), status["CapBnd"].strip(), status["NoNewPrivs"].strip())
print("user", os.getuid(), os.getgid())
print("first", os.getpid() != 1 and os.getppid() == 1, open("/proc/1/comm").read().strip())
"""
