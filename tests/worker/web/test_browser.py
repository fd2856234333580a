"""The pages in a real browser: scripts run under the policy, keys and wheel work, the worklist keeps up."""

import re
import shutil
import threading

import pytest
import uvicorn
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait
from sqlalchemy import update

from tests.worker.web.browser import password_of
from worker.records.database import Job
from worker.states import JobState
from worker.web import study_pages
from worker.web.address import open_socket
from worker.web.app import make_app

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1280,900",
)

pytestmark = [
    pytest.mark.apt,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromium-driver"),
]


@pytest.fixture
def url(graded, web):
    """The page, served on a port of its own."""
    settings = web.settings.model_copy(update={"web_port": 0})
    listener = open_socket(settings)
    server = uvicorn.Server(uvicorn.Config(make_app(web), log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture
def driver(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield browser
    finally:
        browser.quit()


def wait(driver, condition):
    return WebDriverWait(driver, 60).until(lambda _: condition())


def log_in(driver, url, role):
    driver.get(url)
    driver.find_element(By.NAME, "name").send_keys(role)
    driver.find_element(By.NAME, "password").send_keys(password_of(role) + Keys.ENTER)
    wait(driver, lambda: driver.find_elements(By.ID, "worklist"))


def words_of(driver, name):
    return driver.find_element(By.ID, name).text


def complaints(driver):
    """What the browser has to say: scripts that failed, and what the policy has blocked."""
    return [entry["message"] for entry in driver.get_log("browser")]


def test_the_worklist_keeps_up_by_itself_and_what_has_the_focus_keeps_it(driver, url, web):
    log_in(driver, url, "viewer")
    assert words_of(driver, "worklist").count("deliver") == 1
    driver.find_element(By.LINK_TEXT, "1").send_keys("")
    driver.execute_script("document.querySelector('a[href=\"/studies/1\"]').focus()")
    with web.sessions.begin() as session:
        session.execute(update(Job).values(state=JobState.HELD, reason="a destination refused it"))
    wait(driver, lambda: "a destination refused it" in words_of(driver, "worklist"))
    assert driver.switch_to.active_element.text == "1"
    assert complaints(driver) == []


def test_a_page_whose_login_has_ended_asks_for_it(driver, url, web):
    log_in(driver, url, "viewer")
    with web.sessions.begin() as session:
        session.connection().exec_driver_sql("DELETE FROM web_session")
    wait(driver, lambda: driver.current_url.endswith("/login"))


def test_a_page_that_is_not_refreshed_says_since_when_until_it_is_again(driver, url, monkeypatch):
    def fail(*_):
        raise ValueError

    log_in(driver, url, "viewer")
    assert words_of(driver, "stale") == ""
    driver.set_network_conditions(offline=True, latency=0, throughput=0)
    wait(driver, lambda: re.fullmatch(r"Not refreshed since \d\d:\d\d UTC", words_of(driver, "stale")))
    assert driver.find_element(By.ID, "stale").aria_role == "status"
    driver.delete_network_conditions()
    wait(driver, lambda: words_of(driver, "stale") == "")
    with monkeypatch.context() as patched:
        patched.setattr(study_pages, "read_worklist", fail)
        wait(driver, lambda: words_of(driver, "stale").startswith("Not refreshed since"))
    wait(driver, lambda: words_of(driver, "stale") == "")


def test_a_page_that_says_why_a_decision_is_not_made_keeps_up_too(driver, url, web):
    log_in(driver, url, "operator")
    driver.get(f"{url}/studies/1")
    driver.find_element(By.XPATH, "//button[text()='Release as it is']").click()
    wait(driver, lambda: driver.current_url.endswith("/studies/1/release"))
    assert driver.find_elements(By.CSS_SELECTOR, ".problem[role=alert]")
    with web.sessions.begin() as session:
        session.execute(update(Job).values(state=JobState.HELD, reason="a destination refused it"))
    wait(driver, lambda: "a destination refused it" in words_of(driver, "story"))
    assert words_of(driver, "stale") == ""
    with web.sessions.begin() as session:
        session.connection().exec_driver_sql("DELETE FROM web_session")
    wait(driver, lambda: driver.current_url.endswith("/login"))


def test_the_viewer_answers_to_keys_and_wheel(driver, url):
    log_in(driver, url, "viewer")
    driver.get(f"{url}/studies/1/attention")
    wait(driver, lambda: words_of(driver, "slice-words") == "2 of 4")
    assert driver.switch_to.active_element.get_attribute("id") == "viewer"
    viewer = driver.find_element(By.ID, "viewer")
    for key, words in ((Keys.ARROW_UP, "3"), (Keys.END, "4"), (Keys.ARROW_UP, "4"), (Keys.HOME, "1")):
        viewer.send_keys(key)
        assert words_of(driver, "slice-words") == f"{words} of 4"
    ActionChains(driver).scroll_from_origin(ScrollOrigin.from_element(viewer), 0, -100).perform()
    wait(driver, lambda: words_of(driver, "slice-words") == "2 of 4")
    plain, overlay = driver.find_elements(By.CSS_SELECTOR, "#stack img")
    for image in (plain, overlay):
        wait(driver, lambda image=image: image.get_property("naturalWidth"))
    assert overlay.value_of_css_property("opacity") == "1"
    viewer.send_keys("-")
    assert (words_of(driver, "opacity-words"), overlay.value_of_css_property("opacity")) == ("95 %", "0.95")
    assert plain.size == overlay.size
    assert driver.find_element(By.ID, "page").get_attribute("href").endswith("/objects/2/page.png")
    assert complaints(driver) == []


def test_all_can_be_reached_by_keyboard(driver, url):
    log_in(driver, url, "operator")
    driver.get(f"{url}/studies/1")
    reached = set()
    for _ in range(60):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        focused = driver.switch_to.active_element
        reached.add(focused.get_attribute("name") or focused.text)
    assert {"Worklist", "Log out", "Attention viewer", "Structured Report", "Try again"} <= reached
    assert {"Set series and grade anew", "t1ce", "grade", "Record"} <= reached
    assert complaints(driver) == []
