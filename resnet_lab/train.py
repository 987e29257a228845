"""`resnet-lab`: one run, or a sweep."""

from resnet_lab.runs.signals import handle_signals, ignore_signals, leave


def main() -> None:
    handle_signals(leave)  # before anything that takes time to import
    from resnet_lab.sweeps.command import compose_and_run

    try:
        compose_and_run()
    finally:
        ignore_signals()


if __name__ == "__main__":
    main()
