"""``python -m rpcregistry`` and ``rpcregistry``."""

import sys


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        from rpcregistry.cli import run_command

        code = run_command(sys.argv[1:])
    except ModuleNotFoundError as error:
        if (error.name or "rpcregistry").startswith("rpcregistry"):
            raise  # a fault of ours
        # RPC processes install the SDK alone.
        needs = f'the command needs the extra "controller" (there is no module {error.name})'
        print(f'rpcregistry: {needs}: pip install "rpcregistry[controller]"', file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
