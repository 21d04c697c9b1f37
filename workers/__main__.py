"""`python -m workers`: one worker process, configured by the environment. Imports nothing until it runs."""


def main() -> None:
    """Run a worker until SIGTERM or SIGINT."""
    from experiments.settings import settings
    from workers.logs import configure
    from workers.main import work

    configure(json=settings().log_json)
    work(settings())


if __name__ == "__main__":
    main()
