//! Input of a QMP connection: bytes to lines to messages, with a bound on each. Pure.

use serde::Deserialize;
use serde_json::Value;

use super::{Message, QmpError, Refused};

/// Longest line that is taken from QEMU, in bytes. The longest that is of use, query-stats of a
/// thousand vCPUs, has 6 MiB.
pub const MAX_LINE: usize = 8 << 20;

/// Most memory that a message may take once it is parsed, as [`footprint`] estimates it, in bytes.
/// query-stats of 500 vCPUs takes half of it.
pub const MAX_FOOTPRINT: usize = 64 << 20;

/// Longest reason of a refusal, in characters.
const MAX_REASON: usize = 1000;

/// Bytes of input that have not made up a line yet.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// How many of them are known to hold no line end.
    searched: usize,
}

impl LineBuffer {
    /// Appends what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line, with its end.
    ///
    /// # Errors
    /// [`QmpError::NotQmp`] if it is longer than [`MAX_LINE`].
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, QmpError> {
        let unsearched = self.bytes.get(self.searched..).unwrap_or_default();
        let Some(at) = unsearched.iter().position(|b| *b == b'\n') else {
            self.searched = self.bytes.len();
            if self.bytes.len() > MAX_LINE {
                return Err(QmpError::NotQmp(format!("a line is longer than {MAX_LINE} bytes")));
            }
            return Ok(None);
        };
        let end = self.searched.saturating_add(at);
        self.searched = 0;
        let line = self.bytes.drain(..=end).collect();
        if self.bytes.is_empty() {
            // The memory of a long line is not held until the next one.
            self.bytes = Vec::new();
        }
        Ok(Some(line))
    }

    /// Whether there may be a whole line.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.searched < self.bytes.len()
    }
}

/// The memory that a line takes as a [`Value`], in bytes: at least as much as that. An object takes
/// a node of a map even if it has one member; each further member or element has a name, a value
/// and its share of what vectors and maps grow by in advance.
#[must_use]
pub fn footprint(line: &[u8]) -> usize {
    let of = |byte: &u8| match byte {
        b'{' => 640,
        b'[' => 160,
        b',' => 128,
        _ => 1,
    };
    line.iter().map(of).fold(0, usize::saturating_add)
}

/// What is read of a line that is too large to be parsed whole.
#[derive(Deserialize)]
struct Head {
    id: Option<u64>,
}

/// A line as a message; `None` if it is neither an event nor a reply to a command. A reply that
/// would take more memory than [`MAX_FOOTPRINT`] is a refusal, an event of that size is an error.
///
/// # Errors
/// [`QmpError::NotQmp`] if it is not JSON.
pub fn message(line: &[u8]) -> Result<Option<Message>, QmpError> {
    let not_qmp = |e: serde_json::Error| QmpError::NotQmp(e.to_string());
    if footprint(line) > MAX_FOOTPRINT {
        let head: Head = serde_json::from_slice(line).map_err(not_qmp)?;
        let id = head.id.ok_or_else(|| QmpError::NotQmp("an event is too large".to_owned()))?;
        let desc = format!("the answer is too large: it takes more than {MAX_FOOTPRINT} bytes");
        let refused = Refused { class: "TooLarge".to_owned(), desc };
        return Ok(Some(Message::Reply { id, result: Err(refused) }));
    }
    let mut value: Value = serde_json::from_slice(line).map_err(not_qmp)?;
    if let Some(name) = value["event"].as_str().map(str::to_owned) {
        return Ok(Some(Message::Event { name, data: take(&mut value, "data") }));
    }
    let Some(id) = value["id"].as_u64() else { return Ok(None) };
    let result = if value["error"].is_object() {
        let text = |key: &str| {
            let text = value["error"][key].as_str().unwrap_or_default();
            text.chars().take(MAX_REASON).collect()
        };
        Err(Refused { class: text("class"), desc: text("desc") })
    } else {
        Ok(take(&mut value, "return"))
    };
    Ok(Some(Message::Reply { id, result }))
}

fn take(value: &mut Value, key: &str) -> Value {
    value.get_mut(key).map(Value::take).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_however_they_are_cut() {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        for byte in b"ab\n\ncd\ne" {
            buffer.push(&[*byte]);
            lines.extend(buffer.next_line().unwrap());
        }
        assert_eq!(lines, [b"ab\n".to_vec(), b"\n".to_vec(), b"cd\n".to_vec()]);
        buffer.push(b"f\ng\n");
        assert_eq!(buffer.next_line().unwrap().unwrap(), b"ef\n");
        assert!(buffer.has_more());
        assert_eq!(buffer.next_line().unwrap().unwrap(), b"g\n");
        assert!(!buffer.has_more() && buffer.next_line().unwrap().is_none());
    }

    #[test]
    fn a_line_without_an_end_is_refused_at_its_limit() {
        let mut buffer = LineBuffer::default();
        let piece = [b'0'; 64 << 10];
        for _ in 0..MAX_LINE / piece.len() {
            buffer.push(&piece);
            assert!(buffer.next_line().unwrap().is_none());
        }
        buffer.push(&piece);
        assert!(buffer.next_line().is_err());
    }

    #[test]
    fn an_answer_that_expands_is_the_refusal_of_its_command() {
        let many = "{\"\":0},".repeat(200_000);
        let line = format!("{{\"return\": [{many}0], \"id\": 7}}\n");
        assert!(line.len() < MAX_LINE && footprint(line.as_bytes()) > MAX_FOOTPRINT);
        let Some(Message::Reply { id: 7, result: Err(refused) }) =
            message(line.as_bytes()).unwrap()
        else {
            panic!("a refusal");
        };
        assert!(refused.desc.contains("too large"));
        let event = format!("{{\"event\": \"E\", \"data\": [{many}0]}}\n");
        assert!(message(event.as_bytes()).is_err());
    }
}
