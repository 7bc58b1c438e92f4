//! Labels of a point, and their escaped form in the text formats.

use std::fmt::Write;

use domstat_layout::GroupDesc;

/// A label's value.
#[derive(Clone, Copy, Debug)]
pub enum Label<'a> {
    /// Text.
    Text(&'a str),
    /// A number.
    Number(u64),
    /// A number in hexadecimal digits.
    Hex(u64),
    /// A group of the layout: its record and its name, such as `dom.memory`.
    Group(&'static GroupDesc),
}

/// Appends `name="value"`, escaped.
pub(crate) fn push_label(out: &mut String, name: &str, label: Label<'_>) {
    let _ = match label {
        Label::Text(text) => {
            push_text(out, name, text);
            Ok(())
        }
        Label::Number(number) => write!(out, "{name}=\"{number}\""),
        Label::Hex(number) => write!(out, "{name}=\"{number:016x}\""),
        Label::Group(group) => write!(out, "{name}=\"{}.{}\"", group.record.name(), group.name),
    };
}

fn push_text(out: &mut String, name: &str, text: &str) {
    out.push_str(name);
    out.push_str("=\"");
    if text.bytes().any(|b| matches!(b, b'\\' | b'"' | b'\n')) {
        for c in text.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
    } else {
        out.push_str(text);
    }
    out.push('"');
}
