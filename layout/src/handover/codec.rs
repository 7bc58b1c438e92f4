//! Bytes of messages, read and written part by part.

use super::{Buffer, MAGIC, MAX_NAME, MessageError, VERSION};

/// Bytes of a message before its body.
pub(super) const HEADER_LEN: usize = 16;

/// Reads a body, part by part.
#[derive(Clone, Copy)]
pub(super) struct Body<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Body<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], MessageError> {
        let needed = self.at.saturating_add(len);
        let found = self.all.len();
        let part = self.all.get(self.at..needed);
        self.at = needed;
        part.ok_or(MessageError::TooShort { found, needed })
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (found, needed) = (self.all.len(), self.at.saturating_add(N));
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(bytes).map_err(|_| MessageError::TooShort { found, needed })
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        self.bytes().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, MessageError> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, MessageError> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// A word and the reserved one behind it.
    pub(super) fn word(&mut self) -> Result<u32, MessageError> {
        let (word, _) = (self.u32()?, self.u32()?);
        Ok(word)
    }

    pub(super) fn name(&mut self, len: u32) -> Result<&'a str, MessageError> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len == 0 || len > MAX_NAME {
            return Err(MessageError::Name);
        }
        let name = core::str::from_utf8(self.take(len)?).map_err(|_| MessageError::Name)?;
        if name.contains('\0') { Err(MessageError::Name) } else { Ok(name) }
    }
}

/// The header of a packet: its kind, the request's id, and the body.
pub(super) fn open(packet: &[u8]) -> Result<(u16, u32, Body<'_>), MessageError> {
    let mut body = Body { all: packet, at: 0 };
    let found = body.u32()?;
    if found != MAGIC {
        return Err(MessageError::Magic { found });
    }
    let (_version, kind, stated, id) = (body.u16()?, body.u16()?, body.u32()?, body.u32()?);
    if u32::try_from(packet.len()) != Ok(stated) {
        return Err(MessageError::Length { stated, found: packet.len() });
    }
    Ok((kind, id, body))
}

/// Writes a message, part by part; what does not fit is noticed at the end.
pub(super) struct Writer<'a> {
    to: &'a mut Buffer,
    at: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(to: &'a mut Buffer, kind: u16, id: u32) -> Self {
        let mut writer = Self { to, at: 0 };
        writer.u32(MAGIC);
        writer.bytes(&VERSION.to_le_bytes());
        writer.bytes(&kind.to_le_bytes());
        writer.u32(0);
        writer.u32(id);
        writer
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        if let Some(to) = self.to.get_mut(self.at..end) {
            to.copy_from_slice(bytes);
        }
        self.at = end;
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// A name's length; the name itself stands last in its message.
    pub(super) fn name_len(&mut self, name: &str) {
        self.u32(u32::try_from(name.len()).unwrap_or(u32::MAX));
    }

    pub(super) fn end(mut self, name: &str) -> Option<&'a [u8]> {
        self.bytes(name.as_bytes());
        let len = self.at;
        let stated = u32::try_from(len).ok()?.to_le_bytes();
        self.to.get_mut(8..12)?.copy_from_slice(&stated);
        self.to.get(..len)
    }
}
