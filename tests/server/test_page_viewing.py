"""Looking at things on the page: clips, pages, the map, by keyboard, in the dark, on a phone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import Page, expect

from server.pages import names, params

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import FloatRect

PIXELS = """(each) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [each.naturalWidth, each.naturalHeight];
    canvas.getContext("2d").drawImage(each, 0, 0);
    return canvas.toDataURL();
}"""
NAMELESS = """() => [...document.querySelectorAll("button, a, input, select, canvas, dialog, [role]")]
    .filter((each) => !(each.ariaLabel || each.textContent.trim() || each.labels?.length || each.hidden
        || each.getAttribute("aria-labelledby") || each.getAttribute("role") === "status"))
    .map((each) => each.outerHTML)"""
HOVERED = "() => { const clip = document.querySelector('.card video.playing'); return clip && clip.currentTime }"
PATH = """async () => {
    const { id } = document.activeElement.closest(".card").dataset;
    return (await (await fetch(`v1/items/${encodeURIComponent(id)}`)).json()).path;
}"""


def test_a_clip_opens_at_its_time(opened: Callable[..., Page]) -> None:
    page = opened("?q=fox&weak=1&kind=video")
    card = page.locator(".card", has=page.locator(".badge", has_text="0:02–0:04"))
    card.hover()
    hovered = page.wait_for_function(HOVERED)
    assert 2 <= hovered.json_value() < 4.5
    card.locator("a").click()
    video = page.locator("#stage video")
    page.wait_for_function("() => document.querySelector('#stage video')?.currentTime > 2")
    muted, at = video.evaluate("(each) => [each.muted, each.currentTime]")
    assert muted
    assert 2 < at < 4.5
    expect(page.locator("#about")).to_contain_text("0:02–0:04")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    assert "item=" not in params(page)


def test_no_clip_plays_where_motion_is_unwanted(opened: Callable[..., Page]) -> None:
    page = opened("?q=fox&weak=1&kind=video", reduced_motion="reduce")
    page.locator(".card").first.hover()
    page.wait_for_timeout(400)
    expect(page.locator(".card video")).to_have_count(0)


def test_a_pdf_is_paged_through(opened: Callable[..., Page]) -> None:
    page = opened("?q=fox&weak=1&kind=pdf")
    page.locator(".card", has_text="Page 2").locator("a").click()
    number, shown = page.locator("#page-number"), page.locator("#shown")
    expect(number).to_have_text("Page 2 of 3")
    drawn = []
    for way, wanted in (("after", 3), ("before", 2), ("before", 1)):
        page.click(f"#page-{way}")
        expect(number).to_have_text(f"Page {wanted} of 3")
        expect(shown).to_have_attribute("src", re.compile(f"page={wanted}"))
        page.wait_for_function("() => document.getElementById('shown').complete")
        drawn.append(shown.evaluate(PIXELS))
    assert drawn[0] != drawn[1] != drawn[2], "each page is another picture"
    expect(page.locator("#page-before")).to_be_disabled()
    page.keyboard.press("]")
    expect(number).to_have_text("Page 2 of 3")
    page.keyboard.press("[")
    page.locator("#page-found").click()
    expect(number).to_have_text("Page 2 of 3")
    page.reload()
    expect(number).to_have_text("Page 2 of 3")


def test_the_map(opened: Callable[..., Page]) -> None:
    page = opened()
    page.keyboard.press("m")
    canvas, tip = page.locator("#map"), page.locator("#tip")
    expect(canvas).to_have_attribute("data-shown", "17")
    expect(page.locator("#legend")).to_contain_text("Pages 3")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    expect(tip).to_be_visible()
    before = tip.text_content()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    expect(tip).not_to_have_text(before or "")
    near = tip.bounding_box()
    name = tip.locator("strong").text_content()
    page.keyboard.press("Enter")
    expect(page.locator("#detail-name")).to_have_text(name or "")
    page.keyboard.press("Escape")
    found = hover_something(page, near)
    page.mouse.click(*found)
    expect(page.locator("#detail")).to_be_visible()
    page.keyboard.press("Escape")
    drawn = canvas.evaluate("(each) => each.toDataURL()")
    page.mouse.wheel(0, -300)
    page.wait_for_function("(before) => document.getElementById('map').toDataURL() !== before", arg=drawn)
    page.mouse.down()
    page.mouse.move(found[0] + 80, found[1] + 40, steps=4)
    page.mouse.up()
    expect(page.locator("#detail")).to_be_hidden()
    page.keyboard.press("1")
    expect(canvas).to_have_attribute("data-shown", "4")
    page.go_back()
    expect(canvas).to_have_attribute("data-shown", "17")
    page.keyboard.press("m")
    expect(page.locator(".card")).to_have_count(17)


def hover_something(page: Page, near: FloatRect | None) -> tuple[float, float]:
    """A place with an item under it, sought beside the card of one."""
    assert near
    middle = int(near["y"] + near["height"] / 2)
    for x in range(int(near["x"]) - 60, int(near["x"] + near["width"]) + 60, 9):
        for y in range(middle - 40, middle + 40, 9):
            page.mouse.move(x, y)
            if page.locator("#tip").is_visible():
                return x, y
    raise AssertionError("nothing is found by the pointer")


def test_the_keyboard_is_enough(opened: Callable[..., Page]) -> None:
    page = opened("?q=fox&weak=1")
    expect(page.locator(".card")).to_have_count(17)
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.press("ArrowDown")
    cards = page.locator(".card a.open")
    expect(cards.nth(0)).to_be_focused()
    assert cards.nth(0).evaluate("(each) => getComputedStyle(each).outlineStyle") == "solid"
    page.keyboard.press("ArrowRight")
    expect(cards.nth(1)).to_be_focused()
    path = page.evaluate(PATH)
    page.keyboard.press("c")
    expect(page.locator("#toast")).to_have_text("Path copied")
    assert page.evaluate("navigator.clipboard.readText()") == path
    page.keyboard.press("End")
    expect(cards.nth(16)).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#detail-name")).to_have_text(names(page)[1])
    page.keyboard.press("Escape")
    expect(cards.nth(1)).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("go to the search box")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator("#q")).to_have_value("")


def test_every_control_has_a_name(opened: Callable[..., Page]) -> None:
    page = opened("?q=fox&weak=1")
    expect(page.locator(".card")).to_have_count(17)
    assert page.evaluate(NAMELESS) == []
    page.locator(".card").first.locator("a").click()
    expect(page.locator("#near button").first).to_be_visible()
    assert page.evaluate(NAMELESS) == []


def test_dark_and_light(opened: Callable[..., Page]) -> None:
    paper = "() => getComputedStyle(document.documentElement).backgroundColor"
    light, dark = (opened(color_scheme=scheme).evaluate(paper) for scheme in ("light", "dark"))
    assert light != dark
    page = opened(color_scheme="dark")
    page.click("#theme")
    assert page.evaluate(paper) == light
    page.reload()
    assert page.evaluate(paper) == light
    page.keyboard.press("t")
    assert page.evaluate(paper) == dark


def test_a_phone_needs_no_sideways_scrolling(opened: Callable[..., Page]) -> None:
    page = opened("?q=fox&weak=1", viewport={"width": 1280, "height": 800}, has_touch=True)
    expect(page.locator(".card")).to_have_count(17)
    page.set_viewport_size({"width": 375, "height": 720})
    wide = "() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    assert page.evaluate(wide) <= 375
    first, second = (page.locator(".card").nth(place).bounding_box() for place in (0, 1))
    assert first
    assert second
    assert first["y"] == second["y"], "two columns"
    page.locator(".card a").first.tap()
    expect(page.locator("#detail")).to_be_visible()
    page.wait_for_function("() => document.getElementById('detail').getBoundingClientRect().width === 375")
    assert page.locator("#detail").evaluate("(each) => each.scrollWidth") <= 375
    page.get_by_role("button", name="Close").tap()
    page.locator("#view-map").tap()
    expect(page.locator("#map")).to_have_attribute("data-shown", "17")
    assert page.evaluate(wide) <= 375
