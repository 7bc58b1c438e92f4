//! Parser of C headers: structures give places, constants give bits and values, comments give the
//! meaning of fields.
//!
//! The parser knows the form in which this crate writes headers and refuses everything else, so
//! that no part of a header is left out of a comparison.

mod assemble;
mod check;

use std::collections::BTreeMap;

use crate::Abi;
use crate::c_token::{Token, TokenKind, number, tokens, value};

/// Reason why a header cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", at(*.line))]
pub struct HeaderError {
    /// The line, from 1 on; 0 for a fault of the whole file.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

fn at(line: usize) -> String {
    if line == 0 { String::new() } else { format!("line {line}: ") }
}

/// The parts of a header.
#[derive(Default)]
struct Parts {
    structs: BTreeMap<String, Struct>,
    constants: BTreeMap<String, Define>,
    /// The name of the include guard, from its `#ifndef` on.
    guard: Option<String>,
    /// Headers of the C library that are included.
    includes: Vec<String>,
    /// Conditionals that are open.
    depth: usize,
}

/// A constant.
struct Define {
    line: usize,
    /// Its value, if it is a number.
    value: Option<u64>,
    /// Its value as text that is the same for equal numbers.
    text: String,
}

/// A structure.
struct Struct {
    line: usize,
    members: Vec<Member>,
    size: usize,
    align: usize,
    /// The comment before it.
    comment: String,
}

struct Member {
    line: usize,
    ty: String,
    /// The structure that it is, if it is one.
    of: Option<String>,
    name: String,
    offset: usize,
    width: usize,
    comment: String,
}

/// Reads a header in the form in which this crate writes them.
///
/// # Errors
/// [`HeaderError`] for the first part that has another form or contradicts another part.
pub fn parse_c_header(text: &str) -> Result<Abi, HeaderError> {
    let tokens = tokens(text)?;
    let is_ours = |window: &[Token<'_>]| match window {
        [define, name] => define.is("define") && name.is("DOMSTAT_REVISION"),
        _ => false,
    };
    if !tokens.windows(2).any(is_ours) {
        let what = "not a header of domstat: it does not define DOMSTAT_REVISION (structs of other \
                    projects are compared with --struct NAME)";
        return Err(HeaderError { line: 0, what: what.to_owned() });
    }
    let mut parts = Parts::default();
    let mut cursor = Cursor { rest: &tokens, line: 1 };
    let mut comment = "";
    while let Some(token) = cursor.next() {
        match token.kind {
            TokenKind::Comment => comment = token.text,
            _ if token.is("#") => parts.directive(token.line, &mut cursor)?,
            _ if token.is("struct") => parts.structure(token.line, &mut cursor, comment)?,
            _ if token.is("typedef") => parts.check(token.line, &mut cursor)?,
            _ => {
                let what =
                    format!("expected a struct, a constant or a check, found {}", token.text);
                return Err(HeaderError { line: token.line, what });
            }
        }
    }
    if parts.depth > 0 {
        return Err(HeaderError { line: cursor.line, what: "#endif is missing".to_owned() });
    }
    parts.assemble()
}

/// The tokens that are left.
struct Cursor<'t, 's> {
    rest: &'t [Token<'s>],
    /// The line of the last token.
    line: usize,
}

impl<'t, 's> Cursor<'t, 's> {
    fn next(&mut self) -> Option<Token<'s>> {
        let (first, rest) = self.rest.split_first()?;
        (self.rest, self.line) = (rest, first.line);
        Some(*first)
    }

    fn error<T>(&self, what: impl Into<String>) -> Result<T, HeaderError> {
        Err(HeaderError { line: self.line, what: what.into() })
    }

    /// The next token, which is not a comment.
    fn code(&mut self) -> Result<Token<'s>, HeaderError> {
        match self.next() {
            Some(token) if token.kind != TokenKind::Comment => Ok(token),
            Some(_) => self.error("a comment inside a declaration"),
            None => self.error("the header ends inside a declaration"),
        }
    }

    fn word(&mut self, what: &str) -> Result<&'s str, HeaderError> {
        let token = self.code()?;
        if token.kind == TokenKind::Word {
            return Ok(token.text);
        }
        self.error(format!("expected {what}, found {}", token.text))
    }

    fn expect(&mut self, expected: &str) -> Result<(), HeaderError> {
        let token = self.code()?;
        if token.is(expected) {
            return Ok(());
        }
        self.error(format!("expected {expected}, found {}", token.text))
    }

    fn usize(&mut self) -> Result<usize, HeaderError> {
        let token = self.code()?;
        let parsed = number(token.text).and_then(|n| usize::try_from(n).ok());
        match parsed.filter(|_| token.kind == TokenKind::Number) {
            Some(n) => Ok(n),
            None => self.error(format!("expected a number, found {}", token.text)),
        }
    }

    fn peek_is(&self, text: &str) -> bool {
        self.rest.first().is_some_and(|token| token.is(text))
    }

    /// A comment that follows on the same line; empty if there is none.
    fn trailing_comment(&mut self) -> Result<String, HeaderError> {
        let line = self.line;
        let same_line = |token: &&Token<'_>| token.kind == TokenKind::Comment && token.line == line;
        let Some(comment) = self.rest.first().filter(same_line).copied() else {
            return Ok(String::new());
        };
        self.next();
        if self.rest.first().filter(same_line).is_some() {
            return self.error("two comments after one member");
        }
        Ok(words(comment.text))
    }

    /// The tokens up to the end of the line, without comments.
    fn line(&mut self, line: usize) -> Vec<Token<'s>> {
        let mut tokens = Vec::new();
        while let Some(token) = self.rest.first().filter(|token| token.line == line).copied() {
            self.next();
            if token.kind != TokenKind::Comment {
                tokens.push(token);
            }
        }
        tokens
    }
}

impl Parts {
    fn directive(&mut self, line: usize, cursor: &mut Cursor<'_, '_>) -> Result<(), HeaderError> {
        let tokens = cursor.line(line);
        let error = |what: &str| Err(HeaderError { line, what: what.to_owned() });
        let (name, rest) = match tokens.as_slice() {
            [name, rest @ ..] => (name.text, rest),
            [] => return error("a directive without a name"),
        };
        match (name, rest) {
            ("include", [open, file, dot, h, close])
                if open.is("<") && dot.is(".") && h.is("h") && close.is(">") =>
            {
                match file.text {
                    "stddef" | "stdint" => {
                        self.includes.push(file.text.to_owned());
                        Ok(())
                    }
                    _ => error("includes a header other than stddef.h and stdint.h"),
                }
            }
            // Two headers at once are an error of the compiler's.
            ("ifdef", [name]) if name.is("DOMSTAT_REVISION") => {
                let error_line = match (cursor.next(), cursor.next()) {
                    (Some(hash), Some(name)) if hash.is("#") && name.is("error") => name.line,
                    _ => return error("#ifdef DOMSTAT_REVISION is not followed by #error"),
                };
                cursor.line(error_line);
                match (cursor.next(), cursor.next()) {
                    (Some(hash), Some(name)) if hash.is("#") && name.is("endif") => {
                        if cursor.line(name.line).is_empty() {
                            return Ok(());
                        }
                        cursor.error("more than #endif on its line")
                    }
                    _ => cursor.error("#error is not followed by #endif"),
                }
            }
            ("ifndef", [name]) if self.guard.is_none() && self.structs.is_empty() => {
                self.depth += 1;
                self.guard = Some(name.text.to_owned());
                Ok(())
            }
            ("endif", []) if self.depth > 0 => {
                self.depth -= 1;
                Ok(())
            }
            ("define", [name, ..]) => self.define(line, name, rest.get(1..).unwrap_or_default()),
            _ => error("a directive that headers of domstat do not have"),
        }
    }

    fn define(
        &mut self,
        line: usize,
        name: &Token<'_>,
        tokens: &[Token<'_>],
    ) -> Result<(), HeaderError> {
        let Some(known) = name.text.strip_prefix("DOMSTAT_").filter(|_| !tokens.is_empty()) else {
            if tokens.is_empty() && self.guard.as_deref() == Some(name.text) {
                return Ok(());
            }
            let what = format!("defines {}, which is not a constant of domstat", name.text);
            return Err(HeaderError { line, what });
        };
        let value = value(tokens);
        let text = value.map_or_else(
            || tokens.iter().map(|token| token.text).collect::<Vec<_>>().join(" "),
            constant_text,
        );
        if self.constants.insert(known.to_owned(), Define { line, value, text }).is_some() {
            return Err(HeaderError { line, what: format!("DOMSTAT_{known} is defined twice") });
        }
        Ok(())
    }

    fn structure(
        &mut self,
        line: usize,
        cursor: &mut Cursor<'_, '_>,
        comment: &str,
    ) -> Result<(), HeaderError> {
        let name = cursor.word("the name of a struct")?;
        let Some(name) = name.strip_prefix("domstat_") else {
            return cursor.error(format!("struct {name} is not one of domstat's"));
        };
        self.included("stdint", line)?;
        cursor.expect("{")?;
        let comment = words(comment);
        let mut open = Struct { line, members: Vec::new(), size: 0, align: 1, comment };
        loop {
            // A comment on a line of its own belongs to no member.
            while cursor.rest.first().is_some_and(|token| token.kind == TokenKind::Comment) {
                cursor.next();
            }
            if cursor.peek_is("}") {
                break;
            }
            self.member(&mut open, cursor)?;
        }
        cursor.expect("}")?;
        cursor.expect(";")?;
        open.size = open.size.next_multiple_of(open.align);
        if self.structs.insert(name.to_owned(), open).is_some() {
            return cursor.error(format!("struct domstat_{name} is defined twice"));
        }
        Ok(())
    }

    /// Refuses what needs a header of the C library that is not included.
    fn included(&self, name: &str, line: usize) -> Result<(), HeaderError> {
        if self.includes.iter().any(|included| included == name) {
            return Ok(());
        }
        Err(HeaderError { line, what: format!("needs <{name}.h>, which is not included before") })
    }

    /// A member such as `uint64_t running_ns; /* cumulative, ns */`.
    fn member(&self, to: &mut Struct, cursor: &mut Cursor<'_, '_>) -> Result<(), HeaderError> {
        let mut ty = cursor.word("the type of a member")?;
        let mut of = None;
        if ty == "struct" {
            ty = cursor.word("the name of a struct")?;
            of = ty.strip_prefix("domstat_");
        }
        let line = cursor.line;
        let (width, align) = match (ty, of) {
            ("uint64_t", None) => (8, 8),
            ("uint32_t", None) => (4, 4),
            ("uint8_t" | "char", None) => (1, 1),
            (_, Some(name)) => match self.structs.get(name) {
                Some(of) => (of.size, of.align),
                None => return cursor.error(format!("struct {ty} is not defined before")),
            },
            _ => return cursor.error(format!("{ty} is not a type of the layout")),
        };
        let name = cursor.word("the name of a member")?;
        let mut count = 1;
        if cursor.peek_is("[") {
            cursor.next();
            count = cursor.usize()?;
            cursor.expect("]")?;
        }
        cursor.expect(";")?;
        if to.members.iter().any(|member| member.name == name) {
            return cursor.error(format!("a second member {name}"));
        }
        let place = || {
            let offset = to.size.checked_next_multiple_of(align)?;
            let width = count.checked_mul(width)?;
            Some((offset, width, offset.checked_add(width)?))
        };
        let Some((offset, width, end)) = place() else { return cursor.error("too long") };
        to.size = end;
        to.align = to.align.max(align);
        to.members.push(Member {
            line,
            ty: ty.to_owned(),
            of: of.map(str::to_owned),
            name: name.to_owned(),
            offset,
            width,
            comment: cursor.trailing_comment()?,
        });
        Ok(())
    }
}

/// The words of a comment, with one blank between them.
fn words(comment: &str) -> String {
    comment.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A constant's value as text: small numbers are decimal.
pub(crate) fn constant_text(value: u64) -> String {
    if value < 256 { value.to_string() } else { format!("{value:#x}") }
}

#[cfg(test)]
mod tests;
