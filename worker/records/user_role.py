"""What an account of the web page may do."""

from enum import StrEnum


class UserRole(StrEnum):
    """Each may do what the one before it may, and more."""

    VIEWER = "viewer"
    """Looks."""
    OPERATOR = "operator"
    """Also decides: series roles, retry, release, known grade."""
    ADMIN = "admin"
    """Also ends accounts and lets them in again."""

    def covers(self, needed: "UserRole") -> bool:
        """Whether this role may do what is open to `needed`."""
        order = list(UserRole)
        return order.index(self) >= order.index(needed)


class SessionKind(StrEnum):
    """How a session's token is shown; one kind is never taken for the other."""

    BROWSER = "browser"
    """A cookie; ends by idleness too."""
    BEARER = "bearer"
    """An Authorization header, for programs."""
