#!/usr/bin/env python3
"""Draws a terminal's screen as SVG: tmux capture-pane -e -p | tools/picture.py COLUMNS > picture.svg"""
import re
import sys
import unicodedata
from xml.sax.saxutils import escape

COLORS = ["#15191e", "#e06c75", "#7fc97f", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d0d4da"]
BRIGHT = ["#7a828e"] + COLORS[1:]
BACK, FRONT = "#15191e", "#d0d4da"
WIDTH, HEIGHT = 8.4, 18


def width_of(text):
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def color(codes):
    """The color after 38 or 48 in a list of SGR codes, which it is taken from."""
    kind = codes.pop(0)
    if kind != 5:
        raise ValueError(f"a color of kind {kind}")
    n = codes.pop(0)
    return COLORS[n] if n < 8 else BRIGHT[n - 8]


def runs(line, style):
    """Text and its style, piece by piece; the style goes on in the next line."""
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if not part.startswith("\x1b["):
            if part:
                yield part, dict(style)
            continue
        codes = [int(c or 0) for c in part[2:-1].split(";")]
        while codes:
            code = codes.pop(0)
            if code == 0:
                style.clear()
            elif code == 1:
                style["bold"] = True
            elif code == 7:
                style["reverse"] = True
            elif 30 <= code < 38:
                style["fg"] = COLORS[code - 30]
            elif 90 <= code < 98:
                style["fg"] = BRIGHT[code - 90]
            elif code == 38:
                style["fg"] = color(codes)
            elif code == 39:
                style.pop("fg", None)
            elif code == 48:
                style["bg"] = color(codes)
            elif code == 49:
                style.pop("bg", None)


def main():
    columns = int(sys.argv[1])
    lines = sys.stdin.read().rstrip("\n").split("\n")
    width, height = columns * WIDTH + 24, len(lines) * HEIGHT + 24
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
          f'font-family="monospace" font-size="14">')
    print(f'<rect width="100%" height="100%" rx="6" fill="{BACK}"/>')
    style = {}
    for row, line in enumerate(lines):
        column, y = 0, 12 + row * HEIGHT
        for text, look in runs(line, style):
            cells = width_of(text)
            fg, bg = look.get("fg", FRONT), look.get("bg")
            if look.get("reverse"):
                fg, bg = bg or BACK, fg
            x = 12 + column * WIDTH
            if bg:
                print(f'<rect x="{x:.1f}" y="{y}" width="{cells * WIDTH:.1f}" height="{HEIGHT}" '
                      f'fill="{bg}"/>')
            bold = ' font-weight="bold"' if look.get("bold") else ""
            # Word by word, braille sign by sign, each where it belongs, whatever the font's width.
            for word in re.finditer(r"[\u2800-\u28ff]|[^\s\u2800-\u28ff]+", text):
                x = 12 + (column + width_of(text[:word.start()])) * WIDTH
                print(f'<text x="{x:.1f}" y="{y + 13}" fill="{fg}"{bold} '
                      f'textLength="{width_of(word[0]) * WIDTH:.1f}">{escape(word[0])}</text>')
            column += cells
    print("</svg>")


main()
