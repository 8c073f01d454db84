"""Finding on the page, in a real browser before a real server: words, files, filters, likes, a token."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from playwright.sync_api import Browser, Page, expect

from media import samples
from server.pages import TOKEN, Seen, give, names, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Route

COUNTS = {"image": 4, "pdf": 3, "text": 7, "video": 3}
SPELL = """(text) => [...text].forEach((_, place) => {
    const field = document.getElementById("q");
    field.value = text.slice(0, place + 1);
    field.dispatchEvent(new Event("input"));
})"""


def picture(kind: str = "png") -> tuple[str, str, bytes]:
    return f"mine.{kind}", f"image/{kind}", samples.samples()[kind]


def test_the_start_shows_what_is_there(opened: Callable[..., Page]) -> None:
    page = opened()
    expect(page.locator("#intro")).to_contain_text("17 things in things: 4 images, 3 videos, 3 pages, 7 texts")
    for kind, count in COUNTS.items():
        expect(page.locator(f"#kinds [data-kind={kind}] .count")).to_have_text(str(count))
    expect(page.locator(".card")).to_have_count(17)
    page.click("#show-stats")
    expect(page.locator("#stats")).to_contain_text("17 things to find in 8 files")
    page.keyboard.press("Escape")
    expect(page.locator("#stats")).to_be_hidden()


def test_typing_finds(opened: Callable[..., Page], seen: Seen) -> None:
    page = opened("?words=1")
    page.keyboard.press("/")
    page.keyboard.type("a fox")
    page.wait_for_function("() => location.search.includes('q=a+fox')")
    seen.searches.clear()
    page.evaluate(SPELL, "a fox in the snow")
    expect(page.locator(".card .passage mark", has_text="snow").first).to_be_visible()
    expect(page.locator("#status")).to_contain_text("result")
    assert "fox.txt" in names(page)
    assert [each["query"] for each in seen.searches] == [{"text": "a fox in the snow"}], "one a pause, not one a letter"
    score = page.locator(".card .score span").first.text_content()
    assert 0 <= int(score or -1) <= 100


def test_a_stale_answer_is_dropped(opened: Callable[..., Page]) -> None:
    page = opened("?weak=1")
    held: list[Route] = []

    def hold(route: Route) -> None:
        text = json.loads(route.request.post_data or "")["query"]["text"]
        held.append(route) if text == "fo" else route.continue_()

    page.route("**/v1/search", hold)
    page.fill("#q", "fo")
    page.wait_for_function("() => !document.getElementById('busy').hidden")
    page.fill("#q", "fox")
    expect(page.locator("#nothing:visible, .score:visible").first).to_be_visible()
    shown, status = names(page), page.locator("#status").text_content()
    assert held[0].request.failure, "the older request is given up"
    held[0].abort()
    page.wait_for_timeout(100)
    assert (names(page), page.locator("#status").text_content()) == (shown, status)


def test_files_are_dropped_and_pasted_and_joined_by_words(opened: Callable[..., Page], seen: Seen) -> None:
    page = opened()
    give(page, "dragenter", picture())
    expect(page.locator("#drop")).to_be_visible()
    give(page, "drop", picture())
    expect(page.locator("#drop")).to_be_hidden()
    expect(page.locator(".part")).to_have_count(1)
    expect(page.locator("#status")).to_contain_text("esult")
    assert list(seen.searches[-1]["query"]) == ["upload"]
    page.fill("#q", "with snow")
    page.wait_for_function("() => location.search.includes('snow')")
    expect(page.locator("#status")).to_contain_text("esult")
    assert set(seen.searches[-1]["query"]) == {"upload", "text"}, "a picture and words are one query"
    give(page, "paste", picture("webp"), ("paper.pdf", "application/pdf", samples.pdf(1)))
    expect(page.locator(".part:not(.sending)")).to_have_count(3)
    page.wait_for_function("() => new URLSearchParams(location.search).getAll('up').length === 3")
    page.wait_for_timeout(50)
    assert [list(each) for each in seen.searches[-1]["query"]] == [["text"], ["upload"], ["upload"], ["upload"]]
    page.locator(".part button").first.click()
    expect(page.locator(".part")).to_have_count(2)
    page.click("#clear")
    expect(page.locator(".part")).to_have_count(0)
    give(page, "drop", ("song.mp3", "audio/mpeg", b"la"))
    expect(page.locator("#toast")).to_contain_text("Only pictures, videos and PDFs")


def test_filters_and_the_way_back(opened: Callable[..., Page], seen: Seen) -> None:
    page = opened("?q=fox&weak=1")
    expect(page.locator(".card")).to_have_count(17)
    page.click("#kinds [data-kind=image]")
    expect(page.locator(".card")).to_have_count(4)
    assert all(each.startswith(("png", "webp", "jpeg", "gif")) for each in names(page))
    page.click("#kinds [data-kind=text]")
    expect(page.locator(".card")).to_have_count(11)
    page.click("#folder")
    page.fill("#folder-search", "deep")
    page.locator("#folder-list button", has_text="deep/er").click()
    expect(page.locator(".card")).to_have_count(6)
    page.go_back()
    expect(page.locator(".card")).to_have_count(11)
    page.click("#date")
    page.locator("#years button", has_text="2023").click()
    expect(page.locator(".card")).to_have_count(4)
    assert seen.searches[-1]["where"] == "kind IN ('image', 'text') AND year >= 2023 AND year <= 2023"
    page.keyboard.press("Escape")
    page.click("#unfilter")
    expect(page.locator(".card")).to_have_count(17)
    page.reload()
    expect(page.locator(".card")).to_have_count(17)
    expect(page.locator("#q")).to_have_value("fox")


def test_nothing_matches_and_the_ways_on(opened: Callable[..., Page]) -> None:
    page = opened("?q=fox&kind=video&folder=deep")
    expect(page.locator("#nothing")).to_contain_text("Nothing here matches “fox”")
    page.get_by_role("button", name="Show the nearest anyway").click()
    expect(page.locator("#nothing")).to_contain_text("The filters leave nothing")
    page.locator("#nothing").get_by_role("button", name="Clear filters").click()
    expect(page.locator(".card")).to_have_count(17)


def test_more_and_less_like_this(opened: Callable[..., Page], seen: Seen) -> None:
    page = opened("?q=fox&weak=1&kind=image")
    first, second = (page.locator(".card").nth(place) for place in (0, 1))
    liked, other = first.get_attribute("data-id"), second.get_attribute("data-id")
    second.hover()
    second.get_by_role("button", name="Less like").click()
    expect(page.locator(".part.less")).to_have_count(1)
    expect(page.locator(f".card[data-id='{other}']")).to_have_count(0)
    assert seen.searches[-1]["unlike"] == [other]
    page.locator(f".card[data-id='{liked}'] a").click()
    expect(page.locator("#near button").first).to_be_visible()
    page.get_by_role("button", name="More like this").click()
    expect(page.locator("#detail")).to_be_hidden()
    expect(page.locator(".part.like")).to_have_count(1)
    expect(page.locator("#status")).to_contain_text("esult")
    assert seen.searches[-1]["like"] == [liked]
    page.focus("#q")
    for _ in range(2):
        page.keyboard.press("Home")
        page.keyboard.press("Backspace")
    expect(page.locator(".part")).to_have_count(0)


def test_a_token_is_asked_for_once(addresses: tuple[str, str], browser: Browser) -> None:
    home = addresses[1]
    context = browser.new_context()
    page = context.new_page()
    ready(page, home)
    page.goto(f"{home}/?q=fox&weak=1&kind=image")
    dialog, field = page.locator("#token"), page.locator("#token-field")
    expect(dialog).to_be_visible()
    field.fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#token-wrong")).to_be_visible()
    field.fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator(".card img.loaded")).to_have_count(4)
    expect(dialog).to_be_hidden()
    page.reload()
    expect(page.locator(".card img.loaded")).to_have_count(4)
    expect(dialog).to_be_hidden()
    context.close()
