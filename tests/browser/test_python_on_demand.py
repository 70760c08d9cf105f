"""A model with a plan that an earlier visit kept runs without Python, which starts when something needs it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from .visits import FirstVisit, Returning, close, visit

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

    from nnjit_build.server import SiteServer

PYTHON = "**/pyodide/**"

FAILURE = "(ask) => Function('return ' + ask)()().then(() => null, ({ name, code }) => ({ name, code }))"


def asked_for(context: BrowserContext) -> list[str]:
    """Addresses of Python's parts that are asked for from now on."""
    found: list[str] = []
    context.on("request", lambda request: found.append(request.url) if "/pyodide/" in request.url else None)
    return found


def test_a_model_that_was_tuned_to_the_end_needs_no_python(
    tuned: FirstVisit, returning: Returning, site: SiteServer
) -> None:
    assert (tuned.result["python"], tuned.result["tuned"]) == ("on", False)

    context = returning(tuned)
    fetched = asked_for(context)
    page, second = visit(context, site, tuned.url, 1, tune="background")
    assert (second["python"], second["tuned"]) == ("off", True)
    assert close(second["result"], tuned.model, 1)
    # Longer than a plan that tuning may still improve would wait.
    page.wait_for_timeout(2500)
    assert page.evaluate("model.python") == "off"
    assert not fetched
    # What was tuned is there for whoever asks; and hints from elsewhere may make it better.
    text = page.evaluate("model.exportKernels()")
    assert page.evaluate("model.python") == "on"
    page.evaluate("(text) => importKernels(text)", text)
    page.close()
    _, third = visit(context, site, tuned.url, 1)
    assert (third["python"], third["tuned"]) == ("off", False)


def test_python_goes_on_tuning_what_an_earlier_visit_left(
    kept: FirstVisit, returning: Returning, site: SiteServer
) -> None:
    page, second = visit(returning(kept), site, kept.url, 5, tune="background")
    assert second["python"] == "off"
    page.wait_for_function("events.some(({ status }) => status === 'done')")
    assert page.evaluate("model.python") == "on"


def test_inputs_that_the_kept_plan_does_not_fit_start_python(
    kept: FirstVisit, returning: Returning, site: SiteServer
) -> None:
    page, second = visit(returning(kept), site, kept.url, 5)
    assert second["python"] == "off"
    assert close(page.evaluate("run(7)"), kept.model, 7)
    assert page.evaluate("model.python") == "off"
    # A tile of the plan for five rows has more than one.
    assert close(page.evaluate("run(1)"), kept.model, 1)
    assert page.evaluate("model.python") == "on"


def test_python_that_does_not_start_ends_no_model_that_runs(
    kept: FirstVisit, returning: Returning, site: SiteServer
) -> None:
    model, url = kept.model, kept.url
    context = returning(kept)
    context.route(PYTHON, lambda route: route.fulfill(status=503))
    page, second = visit(context, site, url, 5, tune="background")
    assert close(second["result"], model, 5)
    # It is tried, and the failure is told.
    page.wait_for_function("events.some(({ status }) => status === 'failed')")
    assert page.evaluate("model.python") == "failed"
    (message,) = page.evaluate(
        "events.filter(({ status }) => status === 'failed').map(({ message }) => message)"
    )
    assert re.match(r"The compiler is not there: .*started again", message)
    assert page.evaluate(FAILURE, "() => model.report()") == {"name": "CompilerError", "code": "compiler"}
    assert page.evaluate(FAILURE, f"() => load({url!r} + '?new')") == {
        "name": "CompilerError",
        "code": "compiler",
    }
    assert close(page.evaluate("run(9)"), model, 9)
    # Whatever needs it next starts it again.
    context.unroute(PYTHON)
    assert page.evaluate("model.report()")["kernels"]
    assert page.evaluate("model.python") == "on"
    assert close(page.evaluate("run(3)"), model, 3)


def test_the_page_shows_that_python_is_not_there_and_starts_it_when_asked(
    tuned: FirstVisit, returning: Returning, site: SiteServer
) -> None:
    context = returning(tuned)
    context.route(PYTHON, lambda route: route.fulfill(status=503))
    page = context.new_page()
    page.goto(f"{site.url}/?model={tuned.url}&device=wasm&threads=1&autoload=1")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#tuning-text")).to_have_text("Tuned on an earlier visit.")
    expect(page.locator("#report-empty")).to_contain_text("Listing them starts Python.")
    ask = page.get_by_role("button", name="List the kernels")
    ask.click()
    expect(page.locator("#run-error")).to_contain_text("The compiler does not start")
    expect(page.locator("#report-empty")).to_contain_text("did not start")
    context.unroute(PYTHON)
    ask.click()
    # Python starts first.
    expect(page.locator("#kernels")).to_contain_text("matmul", timeout=60_000)
    expect(ask).to_be_hidden()
