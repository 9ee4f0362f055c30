"""Makes a built site whole: copies the files outside docs/ that pages link to, lets Mermaid draw the pictures, and
fails for each link, image or anchor that leads nowhere. Its arguments are the site and the directory of Mermaid."""

import html.parser
import os
import re
import shutil
import sys
import urllib.parse

SITE = os.path.realpath(sys.argv[1])
MERMAID = sys.argv[2]
DOCS = os.path.realpath("docs")
ROOT = os.path.dirname(DOCS)
# Files outside docs/ are shown below this.
FILES = "files"


class Page(html.parser.HTMLParser):
    """The ids of a page, and what it links to."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = {""}, []
        with open(path, encoding="utf-8") as file:
            self.text = file.read()
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        link = attributes.get({"a": "href", "img": "src", "link": "href", "script": "src"}.get(tag))
        if link:
            self.links.append(link)


def is_outside(link):
    """Whether it leads to another server."""
    return bool(urllib.parse.urlsplit(link).scheme) or link.startswith("//")


def copied(source):
    """Copies a file of the repository into the site and gives its path there. A directory becomes a list of its files."""
    inside = os.path.join(SITE, FILES, os.path.relpath(source, ROOT))
    if not os.path.isdir(source):
        os.makedirs(os.path.dirname(inside), exist_ok=True)
        shutil.copyfile(source, inside)
        # A browser shows a text, and would offer to store most of these files.
        os.replace(inside, inside + ".txt")
        return inside + ".txt"
    os.makedirs(inside, exist_ok=True)
    names = []
    for directory, _, files in sorted(os.walk(source)):
        names += [os.path.relpath(copied(os.path.join(directory, name)), inside) for name in sorted(files)]
    with open(os.path.join(inside, "index.html"), "w", encoding="utf-8") as file:
        items = "".join(f'<li><a href="{name}">{name.removesuffix(".txt")}</a>' for name in names)
        title = html.escape(os.path.relpath(source, ROOT))
        file.write(f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1><ul>{items}</ul>')
    return os.path.join(inside, "index.html")


def source_of(page):
    """The directory of the Markdown file that a page was made of."""
    return os.path.dirname(os.path.join(DOCS, os.path.relpath(page, SITE)))


def mend(page):
    """Lets the links of a page that leave docs/ lead to copies."""

    def replaced(match):
        link = html.unescape(match.group(2))
        path, _, anchor = link.partition("#")
        if not path or is_outside(link):
            return match.group(0)
        # mdBook makes index.html of README.md, and does not let links follow.
        if os.path.basename(path) == "README.html" and not os.path.exists(os.path.join(os.path.dirname(page), path)):
            index = os.path.join(os.path.dirname(path), "index.html")
            if os.path.exists(os.path.join(os.path.dirname(page), index)):
                return f'{match.group(1)}"{index}{"#" + anchor if anchor else ""}"'
        # It lets a link to Markdown lead to HTML, also outside docs/.
        target = os.path.normpath(os.path.join(source_of(page), urllib.parse.unquote(path)))
        if target.startswith(DOCS + os.sep) or target == DOCS:
            return match.group(0)
        if not os.path.exists(target) and target.endswith(".html"):
            target, anchor = target.removesuffix(".html") + ".md", ""
        if not os.path.exists(target):
            return match.group(0)
        inside = os.path.relpath(copied(target), os.path.dirname(page))
        return f'{match.group(1)}"{inside}{"#" + anchor if anchor else ""}"'

    with open(page, encoding="utf-8") as file:
        text = file.read()
    mended = re.sub(r'(<a [^>]*?href=)"([^"]*)"', replaced, text)
    if mended != text:
        with open(page, "w", encoding="utf-8") as file:
            file.write(mended)


def draw(page):
    """Hands the pictures of a page, which mdBook shows as code, to Mermaid."""
    with open(page, encoding="utf-8") as file:
        text = file.read()
    drawn = re.sub(r'<pre><code class="language-mermaid">(.*?)</code></pre>', r'<pre class="mermaid">\1</pre>', text, flags=re.S)
    if drawn == text:
        return
    here = os.path.relpath(os.path.join(SITE, "mermaid"), os.path.dirname(page))
    scripts = f'<script src="{here}/mermaid.min.js"></script><script src="{here}/draw.js"></script>'
    with open(page, "w", encoding="utf-8") as file:
        file.write(drawn.replace("</body>", scripts + "</body>"))


def add_mermaid():
    """Adds Mermaid and its licence to the site, and what begins it."""
    directory = os.path.join(SITE, "mermaid")
    os.makedirs(directory)
    shutil.copyfile(os.path.join(MERMAID, "dist", "mermaid.min.js"), os.path.join(directory, "mermaid.min.js"))
    shutil.copyfile(os.path.join(MERMAID, "LICENSE"), os.path.join(directory, "LICENSE.txt"))
    shutil.copyfile(os.path.join(ROOT, "tests", "site", "draw.js"), os.path.join(directory, "draw.js"))


def pages_below(directory):
    for path, _, names in os.walk(directory):
        yield from (os.path.join(path, name) for name in sorted(names) if name.endswith(".html"))


def main():
    for page in list(pages_below(SITE)):
        # print.html has all pages in one; its links were made for that.
        if os.path.basename(page) not in ("print.html", "toc.html", "404.html"):
            mend(page)
    add_mermaid()
    for page in pages_below(SITE):
        draw(page)
    pages = {path: Page(path) for path in pages_below(SITE)}
    faults, links = [], 0
    for path, page in pages.items():
        if os.path.basename(path) in ("print.html", "404.html"):
            continue
        for link in page.links:
            if is_outside(link):
                continue
            links += 1
            target, _, anchor = link.partition("#")
            target = urllib.parse.unquote(target.partition("?")[0])
            found = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
            if os.path.isdir(found):
                found = os.path.join(found, "index.html")
            anchor = urllib.parse.unquote(anchor)
            if not found.startswith(SITE + os.sep) or not os.path.exists(found):
                faults.append(f"{os.path.relpath(path, SITE)}: {link}: there is no such file")
            elif anchor and found in pages and anchor not in pages[found].ids:
                faults.append(f"{os.path.relpath(path, SITE)}: {link}: there is no such heading")
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(pages)} pages and {links} links within the site; {len(faults)} lead nowhere")
    sys.exit(1 if faults or links < 1_000 else 0)


main()
