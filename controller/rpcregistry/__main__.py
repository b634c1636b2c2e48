"""``python -m rpcregistry``, ``rpcregistry``, and kubectl's plugin ``kubectl-rpcregistry``."""

import sys
from pathlib import Path


def main() -> None:
    """Run the command line, and exit with its code."""
    plugin = Path(sys.argv[0]).name == "kubectl-rpcregistry"
    try:
        _import_structlog()
        from rpcregistry.cli import run_command

        code = run_command(sys.argv[1:], "kubectl rpcregistry" if plugin else "rpcregistry")
    except ModuleNotFoundError as error:
        if (error.name or "rpcregistry").startswith("rpcregistry"):
            raise  # a fault of ours
        # RPC processes install the SDK alone.
        needs = f'the command needs the extra "controller" (there is no module {error.name})'
        print(f'rpcregistry: {needs}: pip install "rpcregistry[controller]"', file=sys.stderr)
        code = 2
    sys.exit(code)


def _import_structlog() -> None:
    """Import structlog without rich, which it would import for tracebacks that we do not use: 0.1 s, 5 MB."""
    with_rich = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment]  # to an import it is not there
    try:
        import structlog  # noqa: F401
    finally:
        if with_rich:
            sys.modules["rich"] = with_rich
        else:
            del sys.modules["rich"]


def complete() -> None:
    """Print what may follow the arguments: ``kubectl_complete-rpcregistry``."""
    from rpcregistry.cli import complete as completed

    sys.stdout.write(completed(sys.argv[1:]))


if __name__ == "__main__":
    main()
