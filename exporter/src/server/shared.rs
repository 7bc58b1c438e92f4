//! Text of the last scrape, shared with requests that find all slots taken.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::time::Instant;

use crate::openmetrics::Format;

/// Age up to which a text is shared: as long as a request may wait for a slot.
const FRESH: Duration = super::slots::QUEUE;
/// Longest text that is kept to be shared: some hundreds of domains.
const MAX_LEN: usize = 8 << 20;

/// The last text of each format.
#[derive(Default)]
pub(super) struct Shared(Mutex<Vec<Text>>);

struct Text {
    format: Format,
    /// When its values were read.
    as_of: Instant,
    bytes: Bytes,
}

impl Shared {
    fn texts(&self) -> std::sync::MutexGuard<'_, Vec<Text>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text of the last scrape in this format, if it is fresh.
    pub(super) fn fresh(&self, format: Format) -> Option<Bytes> {
        let texts = self.texts();
        let text = texts.iter().find(|text| text.format == format)?;
        (text.as_of.elapsed() <= FRESH).then(|| text.bytes.clone())
    }

    /// Keeps a text, unless a newer one is kept: counters never decrease.
    fn keep(&self, text: Text) {
        let mut texts = self.texts();
        match texts.iter_mut().find(|kept| kept.format == text.format) {
            Some(kept) if kept.as_of > text.as_of => {}
            Some(kept) => *kept = text,
            None => texts.push(text),
        }
    }

    /// Begins a text whose values are read from now on.
    pub(super) fn begin(&self, format: Format) -> Draft<'_> {
        Draft { shared: self, format, as_of: Instant::now(), bytes: Some(Vec::new()) }
    }
}

/// A text in the making.
pub(super) struct Draft<'a> {
    shared: &'a Shared,
    format: Format,
    as_of: Instant,
    /// `None` once it is too long.
    bytes: Option<Vec<u8>>,
}

impl Draft<'_> {
    pub(super) fn push(&mut self, piece: &[u8]) {
        match &mut self.bytes {
            Some(bytes) if bytes.len() + piece.len() <= MAX_LEN => bytes.extend_from_slice(piece),
            bytes => *bytes = None,
        }
    }

    /// Shares the text, which is complete.
    pub(super) fn finish(self) {
        let Self { shared, format, as_of, bytes } = self;
        if let Some(bytes) = bytes {
            shared.keep(Text { format, as_of, bytes: bytes.into() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_text_is_shared_while_it_is_fresh_and_the_newest() {
        let shared = Shared::default();
        let of = |text: &str| {
            let mut draft = shared.begin(Format::Text);
            draft.push(text.as_bytes());
            draft
        };
        let earlier = of("earlier");
        tokio::time::sleep(Duration::from_millis(1)).await;
        of("later").finish();
        // It took longer, and its values are older.
        earlier.finish();
        assert_eq!(shared.fresh(Format::Text).unwrap(), "later");
        assert_eq!(shared.fresh(Format::OpenMetrics), None);
        tokio::time::sleep(FRESH + Duration::from_millis(1)).await;
        assert_eq!(shared.fresh(Format::Text), None);
    }

    #[tokio::test]
    async fn a_long_text_is_not_kept() {
        let shared = Shared::default();
        let mut draft = shared.begin(Format::Text);
        draft.push(&vec![b'x'; MAX_LEN]);
        draft.push(b"x");
        draft.push(b"y");
        draft.finish();
        assert_eq!(shared.fresh(Format::Text), None);
    }
}
