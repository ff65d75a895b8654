"""What goes wrong with a request, as a JSON problem: the status, what was found, the way out."""

from http import HTTPStatus

from pydantic import BaseModel, Field

PROBLEM_TYPE = "application/problem+json"


class ProblemDocument(BaseModel):
    """The body of every answer that is no success."""

    status: int = Field(description="HTTP status")
    title: str = Field(description="The status in words")
    what: str = Field(description="What was found")
    way_out: str = Field(description="What to do about it")


class ProblemError(Exception):
    """A request, or one sample of it, that cannot be served.

    Args:
        status: HTTP status.
        what: What was found.
        way_out: What to do about it.
    """

    def __init__(self, status: int, what: str, way_out: str) -> None:
        super().__init__(f"{status}: {what}; {way_out}")
        self.status = int(status)
        self.what = what
        self.way_out = way_out

    def document(self) -> ProblemDocument:
        """Return the body of the answer."""
        title = HTTPStatus(self.status).phrase
        return ProblemDocument(
            status=self.status, title=title, what=self.what, way_out=self.way_out
        )
