import pytest
from argon2 import PasswordHasher

from tests.worker.web.browser import Browser, grade_a_study, make_web
from worker.web import users


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch):
    """Dozens of logins, none of which has to keep anybody out."""
    monkeypatch.setattr(users, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


@pytest.fixture
def node(make_node):
    return make_node()


@pytest.fixture
def graded(node):
    """A node with one graded study."""
    grade_a_study(node)
    return node


@pytest.fixture
def web(node):
    return make_web(node)


@pytest.fixture
def log_in(web):
    """A browser that a user of this role has logged in with."""

    def open_browser(role):
        browser = Browser(web)
        assert browser.log_in(role).headers["location"] == "/"
        return browser

    return open_browser
