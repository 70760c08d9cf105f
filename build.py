"""The one entry point: `python build.py serve`, `test`, `build`, `run` and more (see `--help`).

Needs Python 3.11 or newer and nothing else. It makes a virtual environment in `.venv` with the versions pinned in
pyproject.toml, then hands over to the package py/nnjit_build, which runs inside that environment.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def pinned() -> str:
    """The requirements of the development environment, one a line."""
    import tomllib

    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    return "\n".join(groups["dev"]) + "\n"


def make_environment() -> None:
    """Create `.venv`, installing Debian's python3-venv first where the system Python comes without it."""
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0:
        return
    if shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-q"], check=True)
        subprocess.run(["apt-get", "install", "-q", "-y", "python3-venv"], check=True)
        if subprocess.run(command).returncode == 0:
            return
    sys.exit(
        f"{sys.executable} cannot make a virtual environment; install its venv and pip modules and try again"
    )


def ensure_environment() -> None:
    """Make `.venv` hold exactly the pinned versions; does nothing when it already does."""
    wanted = pinned()
    stamp = VENV / "installed-requirements.txt"
    if PYTHON.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    if not PYTHON.exists():
        print("making .venv", file=sys.stderr)
        make_environment()
    print("installing the pinned packages into .venv", file=sys.stderr)
    requirements = VENV / "requirements.txt"
    requirements.write_text(wanted, encoding="utf-8")
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "-r", str(requirements)]
    if subprocess.run(command).returncode != 0:
        sys.exit("pip could not install the pinned packages (see above)")
    requirements.replace(stamp)


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 (this is the check)
        sys.exit(f"nnjit needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    ensure_environment()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "py")}
    command = [str(PYTHON), "-m", "nnjit_build", *sys.argv[1:]]
    if os.name != "nt":
        os.execve(PYTHON, command, environment)  # one process: signals reach the one that works
    try:
        return subprocess.run(command, env=environment).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
