//! Text of a region's labels: lines of `key=value`, each ended by a line feed.
//!
//! ```
//! use domstat_layout::labels::{LabelError, LabelText};
//! let text = LabelText::new([("tenant", "acme"), ("project", "web shop")])?;
//! assert_eq!(text.as_str(), Some("tenant=acme\nproject=web shop\n"));
//! assert_eq!(text.labels()?.next(), Some(("tenant", "acme")));
//! # Ok::<(), LabelError>(())
//! ```

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The text of all labels: UTF-8, terminated by a zero byte, at most 1023 bytes long.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct LabelText(pub [u8; 1024]);

/// Why a text is not one of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelError {
    /// It is not terminated, or not UTF-8.
    Text,
    /// The labels need more room than there is.
    TooLong {
        /// Bytes that they need.
        len: usize,
    },
    /// A line has no `=`, or the last has no end.
    Line {
        /// Which label, from 0 on.
        index: usize,
    },
    /// A key is empty or has other characters than a-z, 0-9, `_` and `.`.
    Key {
        /// Which label, from 0 on.
        index: usize,
    },
    /// A value has a control character: it could not be told from the end of the line.
    Value {
        /// Which label, from 0 on.
        index: usize,
    },
    /// Two labels have the same key.
    Twice {
        /// Which label, from 0 on.
        index: usize,
    },
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => write!(f, "the labels are not UTF-8 terminated within 1024 bytes"),
            Self::TooLong { len } => {
                write!(f, "the labels need {len} bytes, more than {}", LabelText::MAX_LEN)
            }
            Self::Line { index } => write!(f, "label {index} is not a line of key=value"),
            Self::Key { index } => {
                write!(f, "label {index}: a key has 1 or more of a-z, 0-9, _ and .")
            }
            Self::Value { index } => write!(f, "label {index}: a value has no control characters"),
            Self::Twice { index } => write!(f, "label {index} has the key of an earlier one"),
        }
    }
}

impl core::error::Error for LabelError {}

impl LabelText {
    /// No labels are produced: every bit is set.
    pub const NOT_PRODUCED: Self = Self([0xff; 1024]);
    /// The longest text in bytes, without its terminator.
    pub const MAX_LEN: usize = 1023;

    /// The text of these labels, keys and values.
    ///
    /// # Errors
    /// [`LabelError`] for a key or a value that is not legal, a key that stands twice, and for more
    /// text than there is room for.
    pub fn new<'a>(
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, LabelError> {
        let mut bytes = [0; 1024];
        let mut len = 0;
        for (index, (key, value)) in labels.into_iter().enumerate() {
            legal(index, key, value)?;
            for part in [key, "=", value, "\n"] {
                let end = len + part.len();
                if let Some(to) = bytes.get_mut(len..end).filter(|_| end <= Self::MAX_LEN) {
                    to.copy_from_slice(part.as_bytes());
                }
                len = end;
            }
        }
        if len > Self::MAX_LEN {
            return Err(LabelError::TooLong { len });
        }
        let text = Self(bytes);
        let _ = text.labels()?;
        Ok(text)
    }

    /// The text, if one is produced, is terminated within its 1024 bytes and is UTF-8. Whether it
    /// is legal is for [`LabelText::labels`].
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if *self == Self::NOT_PRODUCED {
            return None;
        }
        core::ffi::CStr::from_bytes_until_nul(&self.0).ok()?.to_str().ok()
    }

    /// The labels, keys and values in order; none if no labels are produced. The work is bounded by
    /// the square of the 341 labels that there is room for.
    ///
    /// # Errors
    /// [`LabelError`] for a text that is not legal.
    pub fn labels(&self) -> Result<impl Iterator<Item = (&str, &str)>, LabelError> {
        let text = if *self == Self::NOT_PRODUCED { Some("") } else { self.as_str() };
        let text = text.ok_or(LabelError::Text)?;
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let label = line.strip_suffix('\n').and_then(|line| line.split_once('='));
            let (key, value) = label.ok_or(LabelError::Line { index })?;
            legal(index, key, value)?;
            if lines(text).take(index).any(|(earlier, _)| earlier == key) {
                return Err(LabelError::Twice { index });
            }
        }
        Ok(lines(text))
    }
}

fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once('='))
}

fn legal(index: usize, key: &str, value: &str) -> Result<(), LabelError> {
    let in_key = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '.');
    if key.is_empty() || !key.chars().all(in_key) {
        return Err(LabelError::Key { index });
    }
    if value.chars().any(char::is_control) {
        return Err(LabelError::Value { index });
    }
    Ok(())
}

impl fmt::Display for LabelText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str().unwrap_or("not produced"))
    }
}

impl fmt::Debug for LabelText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    fn raw(text: &str) -> LabelText {
        let mut bytes = [0; 1024];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        LabelText(bytes)
    }

    #[test]
    fn labels_are_read_as_they_were_written() {
        let labels = [("a.b_9", "1=2"), ("empty", ""), ("city", "Zürich")];
        let text = LabelText::new(labels).unwrap();
        assert_eq!(text.labels().unwrap().collect::<Vec<_>>(), labels);
        assert_eq!(raw("").labels().unwrap().count(), 0);
        assert_eq!(LabelText::NOT_PRODUCED.labels().unwrap().count(), 0);
        assert_eq!(LabelText::NOT_PRODUCED.as_str(), None);
    }

    #[test]
    fn what_is_not_legal_is_refused_on_both_sides() {
        let new = |key, value| LabelText::new([("k", "v"), (key, value)]).map(|_| ());
        let read = |text: &str| raw(text).labels().map(|_| ());
        let index = 1;
        assert_eq!(new("", "v"), Err(LabelError::Key { index }));
        assert_eq!(new("Tenant", "v"), Err(LabelError::Key { index }));
        assert_eq!(new("a=b", "v"), Err(LabelError::Key { index }));
        assert_eq!(new("k", "w"), Err(LabelError::Twice { index }));
        for control in ["\n", "\r", "\0", "\u{85}"] {
            assert_eq!(new("a", control), Err(LabelError::Value { index }));
        }
        assert_eq!(read("k=v\nk=w\n"), Err(LabelError::Twice { index }));
        assert_eq!(read("k=v\na-b=w\n"), Err(LabelError::Key { index }));
        assert_eq!(read("k=v\na=\r\n"), Err(LabelError::Value { index }));
        assert_eq!(read("k=v\nlast=w"), Err(LabelError::Line { index }));
        assert_eq!(read("k=v\n\n"), Err(LabelError::Line { index }));
        assert_eq!(LabelText([b'a'; 1024]).labels().map(|_| ()), Err(LabelError::Text));
        let mut bytes = raw("k=v\n").0;
        bytes[2] = 0xff;
        assert_eq!(LabelText(bytes).labels().map(|_| ()), Err(LabelError::Text));
    }

    #[test]
    fn a_text_is_as_long_as_there_is_room_for_and_no_longer() {
        let value = |len| std::iter::repeat_n('x', len).collect::<String>();
        let fits = value(LabelText::MAX_LEN - 3);
        assert_eq!(LabelText::new([("k", &*fits)]).unwrap().as_str().unwrap().len(), 1023);
        let long = value(LabelText::MAX_LEN - 2);
        let error = LabelError::TooLong { len: 1024 };
        assert_eq!(LabelText::new([("k", &*long)]), Err(error));
        let error = LabelError::TooLong { len: 1024 + 4 };
        assert_eq!(LabelText::new([("k", &*long), ("a", "b")]), Err(error));
    }
}
