"""JavaScript modules and style sheets are joined for anywidget; tests/browser/test_one_page.py runs them."""

import pytest

from workbench.widgets import base


def write(folder, monkeypatch, **files: str) -> None:
    monkeypatch.setattr(base, "FOLDER", folder)
    for name, content in files.items():
        stem, kind = name.rsplit("_", 1)
        (folder / f"{stem}.{kind}").write_text(content)


def test_each_module_is_joined_once_and_before_who_imports_it(tmp_path, monkeypatch):
    middle = 'import { low } from "./low.js";\nexport const middle = () => low() + 1;\n'
    imports = 'import { low } from "./low.js";\nimport {\n  middle,\n} from "./middle.js";\n'
    view = imports + "export default { low, middle };\n"
    low = "export function low() {\n  return 1;\n}\n"
    write(tmp_path, monkeypatch, view_js=view, middle_js=middle, low_js=low)
    script, css = base.read_front("view")
    assert script.count("function low") == 1 and css == ""
    assert script.index("function low") < script.index("const middle = ") < script.index("export default")
    assert "import" not in script and script.count("export") == 1


def test_styles_are_nested_in_the_class_of_the_widget(tmp_path, monkeypatch):
    imports = 'import { bars } from "./parts.js";\nimport { text } from "./texts.js";\n'
    view = imports + "export default { bars, text };\n"
    parts, texts = "export const bars = 1;\n", "export const text = 1;\n"
    styles = {"parts_css": "p {}\n", "texts_css": "b {}\n", "token_view_css": "i {}\n"}
    write(tmp_path, monkeypatch, token_view_js=view, parts_js=parts, texts_js=texts, **styles)
    css = base.read_front("token_view")[1]
    nested = [
        ".workbench {\np {}\n}\n",
        ".workbench.token-view {\nb {}\n}\n",
        ".workbench.token-view {\ni {}\n}\n",
    ]
    assert css == "".join(nested)


@pytest.mark.parametrize("line", ['import parts from "./parts.js";', "export let count = 0;"])
def test_another_form_of_import_or_export_is_named(tmp_path, monkeypatch, line):
    write(tmp_path, monkeypatch, view_js=f"{line}\nexport default {{}};\n", parts_js="")
    with pytest.raises(ImportError, match=f"view.js: modules import .* not '{line}'"):
        base.read_front("view")
