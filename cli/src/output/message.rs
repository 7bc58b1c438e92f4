//! Messages on the standard error, broken between words on a terminal.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

/// What begins the lines that a message goes on in.
const INDENT: &str = "  ";
/// On a narrower terminal lines are broken by the terminal.
const LEAST_WIDTH: usize = 20;

/// Writes `domstat: ` and `text`. There is nobody to tell if that fails.
pub(crate) fn message(text: &str) {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
    let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width >= LEAST_WIDTH);
    let text = format!("domstat: {text}");
    let text = width.map_or_else(|| text.clone(), |width| wrapped(&text, width));
    let _ = writeln!(io::stderr(), "{text}");
}

/// The text in lines of at most `width` columns, as far as its words allow. Lines that fit, and the
/// spaces that a line begins with, stay as they are.
fn wrapped(text: &str, width: usize) -> String {
    let lines: Vec<String> = text.lines().map(|line| wrapped_line(line, width)).collect();
    lines.join("\n")
}

fn wrapped_line(line: &str, width: usize) -> String {
    if line.width() <= width {
        return line.to_owned();
    }
    let words = line.trim_start();
    let mut wrapped = " ".repeat(line.len() - words.len());
    let mut used = wrapped.width();
    let mut begins = true;
    for word in words.split(' ') {
        let len = word.width();
        if !begins && used + 1 + len > width {
            wrapped.push('\n');
            wrapped.push_str(INDENT);
            used = INDENT.width();
        } else if !begins {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += len;
        begins = false;
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        let text = "domstat: publishing web1 at /run/domstat/web1.domstat; stop with Ctrl-C";
        assert_eq!(wrapped(text, 80), text);
        let expected =
            "domstat: publishing web1 at\n  /run/domstat/web1.domstat; stop\n  with Ctrl-C";
        assert_eq!(wrapped(text, 33), expected);
        let long = "/run/a-path-that-is-wider-than-the-terminal";
        assert_eq!(wrapped(&format!("at {long} now"), 20), format!("at\n  {long}\n  now"));
        assert_eq!(wrapped("a\n  b c d", 5), "a\n  b c\n  d");
    }
}
