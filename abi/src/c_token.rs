//! Tokens of a C header, with their lines.

use crate::HeaderError;

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind,
    /// Its text; of a comment, what is between the delimiters.
    pub(crate) text: &'a str,
    /// Its line, from 1 on.
    pub(crate) line: usize,
}

/// Kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A name or a keyword.
    Word,
    /// A number, with its suffix.
    Number,
    /// One character of punctuation.
    Punctuation,
    /// A string or a character, with its quotes.
    Quoted,
    /// A comment.
    Comment,
}

impl Token<'_> {
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text && !matches!(self.kind, TokenKind::Quoted | TokenKind::Comment)
    }
}

/// Cuts `text` into tokens.
///
/// # Errors
/// [`HeaderError`] for a comment or a string without an end.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token<'_>>, HeaderError> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (text, 1);
    loop {
        let spaces = rest.bytes().position(|b| !b.is_ascii_whitespace()).unwrap_or(rest.len());
        let (blank, code) = rest.split_at(spaces);
        line += lines(blank);
        rest = code;
        let Some(first) = rest.chars().next() else { return Ok(found) };
        let unended = |what: &str| HeaderError { line, what: format!("{what} without an end") };
        let is_word = |b: u8| b == b'_' || b.is_ascii_alphanumeric();
        let (kind, len, inner) = if let Some(inner) = rest.strip_prefix("/*") {
            let end = inner.find("*/").ok_or_else(|| unended("a comment"))?;
            (TokenKind::Comment, end + 4, inner.get(..end))
        } else if let Some(inner) = rest.strip_prefix("//") {
            let end = inner.find('\n').unwrap_or(inner.len());
            (TokenKind::Comment, end + 2, inner.get(..end))
        } else if first == '"' || first == '\'' {
            let inner = rest.get(1..).unwrap_or_default();
            let end = inner.find([first, '\n']).ok_or_else(|| unended("a string"))?;
            if !inner.get(end..).is_some_and(|rest| rest.starts_with(first)) {
                return Err(unended("a string"));
            }
            (TokenKind::Quoted, end + 2, None)
        } else if is_word(rest.as_bytes().first().copied().unwrap_or(0)) {
            let kind = if first.is_ascii_digit() { TokenKind::Number } else { TokenKind::Word };
            (kind, rest.bytes().position(|b| !is_word(b)).unwrap_or(rest.len()), None)
        } else {
            (TokenKind::Punctuation, first.len_utf8(), None)
        };
        let whole = rest.get(..len).unwrap_or(rest);
        found.push(Token { kind, text: inner.unwrap_or(whole), line });
        line += lines(whole);
        rest = rest.get(len..).unwrap_or_default();
    }
}

fn lines(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'\n').count()
}

/// The value of a constant expression: a number, with casts to `uint64_t` and `uint32_t`, `~` and
/// parentheses.
pub(crate) fn value(tokens: &[Token<'_>]) -> Option<u64> {
    let (operand, rest) = operand(tokens)?;
    rest.is_empty().then_some(operand.value)
}

/// A value and the bits that its type has.
struct Operand {
    value: u64,
    mask: u64,
}

const MASK_32: u64 = 0xffff_ffff;

fn operand<'t, 's>(tokens: &'t [Token<'s>]) -> Option<(Operand, &'t [Token<'s>])> {
    let (first, rest) = tokens.split_first()?;
    if first.kind == TokenKind::Number {
        let value = number(first.text)?;
        let suffix = first.text.trim_start_matches(|c: char| c.is_ascii_hexdigit() || c == 'x');
        // A plain number is signed: where its bits are inverted, the sign fills the rest.
        let is_u32 = suffix.eq_ignore_ascii_case("u") && value <= MASK_32;
        return Some((Operand { value, mask: if is_u32 { MASK_32 } else { u64::MAX } }, rest));
    }
    match (first.text, rest) {
        ("~", _) => {
            let (Operand { value, mask }, rest) = operand(rest)?;
            Some((Operand { value: !value & mask, mask }, rest))
        }
        ("(", [ty, close, rest @ ..]) if close.is(")") && ty.kind == TokenKind::Word => {
            let mask = match ty.text {
                "uint64_t" => u64::MAX,
                "uint32_t" => MASK_32,
                _ => return None,
            };
            let (of, rest) = operand(rest)?;
            Some((Operand { value: of.value & mask, mask }, rest))
        }
        ("(", _) => {
            let (inner, rest) = operand(rest)?;
            let (close, rest) = rest.split_first()?;
            close.is(")").then_some((inner, rest))
        }
        _ => None,
    }
}

/// The value of a number such as `3`, `0x10u` or `7ull`.
pub(crate) fn number(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['u', 'U', 'l', 'L']);
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        // A zero in front would make it octal.
        None if digits.len() > 1 && digits.starts_with('0') => None,
        None => digits.parse().ok(),
    }
}
