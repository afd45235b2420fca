"""The pages in a real browser, against the running server: what a person sees and does."""

import json
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs a browser at {CHROMIUM}")

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "switch",
            "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
        },
    }
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(params=[(390, "dark"), (1280, "light")], ids=["phone-dark", "desk-light"])
def page(browser, endpoint, request):
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 844},
        color_scheme=scheme,
        base_url=endpoint.base_url.removesuffix("/v1"),
    )
    context.set_default_timeout(60_000)
    found = context.new_page()
    faults = []
    found.on("pageerror", lambda error: faults.append(str(error)))
    yield found
    context.close()
    assert faults == []


def give_key(page, endpoint) -> None:
    page.get_by_placeholder("API key").fill(endpoint.api_key)
    page.get_by_role("button", name="Use it").click()


def expect(locator):
    playwright.expect.set_options(timeout=60_000)
    return playwright.expect(locator)


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_chat(page, endpoint) -> None:
    page.goto("/")
    give_key(page, endpoint)
    expect(page.locator("#model")).to_have_text("nano")
    page.get_by_text("Settings").click()
    page.locator("#limit").fill("30")
    page.get_by_text("Settings").click()
    page.locator("#entry").fill("What is a godwit?\nTell me.")
    page.locator("#entry").press("Enter")
    expect(page.locator(".turn.user")).to_have_text("What is a godwit?\nTell me.")
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator(".stats")).to_contain_text("tokens/s")
    expect(page.locator(".thought summary")).to_contain_text("Thought (")
    assert page.locator(".thought .text").is_hidden()
    page.locator(".thought summary").click()
    assert page.locator(".thought .text").is_visible()
    assert fits(page)


def test_stop_and_a_long_paste(page, endpoint, idle) -> None:
    def go_on(route) -> None:
        route.continue_(post_data=json.dumps({**json.loads(route.request.post_data), "ignore_eos": True}))

    page.route("**/v1/chat/completions", go_on)
    page.goto("/chat")
    give_key(page, endpoint)
    page.get_by_text("Settings").click()
    page.locator("#limit").fill("8000")
    page.get_by_text("Settings").click()
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.setData("text", "import os\\n".repeat(900));
            const paste = new ClipboardEvent("paste", { clipboardData: data, cancelable: true });
            document.getElementById("entry").dispatchEvent(paste);
        }"""
    )
    expect(page.locator(".chip")).to_contain_text("9,000 characters")
    page.locator("#entry").fill("what is this?")
    page.locator("#send").click()
    expect(page.locator(".chip")).to_have_count(0)
    expect(page.locator(".stats")).to_contain_text("tokens/s")
    page.locator("#stop").click()
    expect(page.locator(".stats")).to_contain_text("stopped")
    assert fits(page)
    idle()


def test_tool_calls_are_shown_and_answered(page, endpoint) -> None:
    # nano does not call tools by itself: the first request is made to ask for it.
    def force(route) -> None:
        body = json.loads(route.request.post_data)
        if body["messages"][-1]["role"] == "user":
            body |= {"tool_choice": "required", "parallel_tool_calls": False}
        route.continue_(post_data=json.dumps(body))

    page.route("**/v1/chat/completions", force)
    page.goto("/chat")
    give_key(page, endpoint)
    page.get_by_text("Settings").click()
    page.locator("#thinking").uncheck()
    page.locator("#limit").fill("60")
    page.locator("#tools").fill(json.dumps(TOOLS))
    page.get_by_text("Settings").click()
    page.locator("#entry").fill("light, please")
    page.locator("#send").click()
    expect(page.locator(".call b")).to_have_text("switch")
    expect(page.locator(".call pre")).to_contain_text('"on":')
    expect(page.locator("#entry")).to_have_attribute("placeholder", "What does switch return?")
    page.locator("#entry").fill("it is on")
    page.locator("#send").click()
    expect(page.locator(".turn.tool")).to_have_text("it is on")
    expect(page.locator(".stats")).to_have_count(2)
    expect(page.locator(".stats").last).to_contain_text("out")
    assert page.locator(".error").count() == 0


def test_a_mistake_is_told_and_the_question_comes_back(page, endpoint) -> None:
    page.goto("/chat")
    give_key(page, endpoint)
    page.get_by_text("Settings").click()
    page.locator("#limit").fill("0.5")
    page.get_by_text("Settings").click()
    page.locator("#entry").fill("hello")
    page.locator("#send").click()
    expect(page.locator(".error")).to_contain_text("max_tokens")
    expect(page.locator("#entry")).to_have_value("hello")


def test_inspector(page, endpoint) -> None:
    page.goto("/inspector")
    give_key(page, endpoint)
    expect(page.locator("#lanes canvas")).to_have_count(12)
    expect(page.locator("#kept")).to_have_text("12 of 12")
    expect(page.locator("#agreement")).to_have_text("100.0 %")
    expect(page.locator("#guess")).to_contain_text("right")
    page.get_by_role("button", name="1/4", exact=True).click()
    expect(page.locator("#kept")).to_have_text("3 of 12")
    expect(page.locator("#loss-note")).to_contain_text("loss, +")
    expect(page.locator("#guess")).to_contain_text("wrong")
    expect(page.locator("#lanes .name").nth(1)).to_have_text("S 1 ← 0")
    # Back to F, by hand.
    page.locator(".layer").nth(1).click()
    expect(page.locator("#kept")).to_have_text("4 of 12")
    expect(page.locator("#lanes .name").nth(2)).to_have_text("S 2 ← 1")
    query = page.locator("#query").text_content()
    page.locator("#tokens span").nth(700).click()
    expect(page.locator("#query")).not_to_have_text(query or "")
    expect(page.locator("#query")).to_contain_text("token 700")
    page.locator("#colour").select_option("loss")
    expect(page.locator("#hint")).to_contain_text("harder to guess")
    page.get_by_role("button", name="Edit the text").click()
    page.locator("#prompt").fill("too short")
    page.get_by_role("button", name="Run it").click()
    expect(page.locator("#error")).to_contain_text("give a longer text")
    assert fits(page)
