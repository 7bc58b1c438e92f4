//! Programs in pages of documentation: each is a whole file of the tree, which CI compiles and runs.
//!
//! A page names the file in a comment, `<!-- producer/examples/publish.rs -->`, right before the code
//! block that shows it.

use std::error::Error;

/// The page with every named file in its block; an error for Rust that is no file of the tree.
pub(crate) fn embed(page: &str) -> Result<String, Box<dyn Error>> {
    let mut out = String::new();
    let mut lines = page.lines();
    let mut named: Option<&str> = None;
    while let Some(line) = lines.next() {
        out += line;
        out.push('\n');
        match (line.strip_prefix("```"), named) {
            (Some(_), Some(file)) => {
                let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
                out += text.trim_end();
                out += "\n```\n";
                lines.find(|line| *line == "```").ok_or("a block without an end")?;
            }
            (Some("rust"), None) => return Err("a block of Rust that names no file".into()),
            (Some(_), None) => {
                for line in lines.by_ref() {
                    out += line;
                    out.push('\n');
                    if line == "```" {
                        break;
                    }
                }
            }
            (None, _) => {}
        }
        named = file_named(line);
    }
    Ok(out)
}

/// The path in a line that is a comment with a path in it.
fn file_named(line: &str) -> Option<&str> {
    let name = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    (name.contains('/') && !name.contains(' ')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::embed;

    #[test]
    fn a_named_file_replaces_what_the_block_holds() {
        let page = "a\n<!-- src/embed.rs -->\n```rust\nold\n```\n```sh\nls\n```\nb\n";
        let file = include_str!("embed.rs").trim_end();
        let expected =
            format!("a\n<!-- src/embed.rs -->\n```rust\n{file}\n```\n```sh\nls\n```\nb\n");
        assert_eq!(embed(page).unwrap(), expected);
        assert!(embed("```rust\nfn main() {}\n```\n").is_err());
        assert!(embed("<!-- no/such.rs -->\n```rust\n```\n").is_err());
    }
}
