"""Words that several texts for people share."""


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "service"), counted(1204, "znode"), counted(0, "pod")
    ('1 service', '1,204 znodes', '0 pods')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
