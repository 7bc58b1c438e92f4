//! # The hand-over protocol
//!
//! How a consumer asks a producer's daemon for the regions that it publishes. One daemon serves
//! any number of domains at one Unix socket of type `SOCK_SEQPACKET`, so that each message is one
//! packet, and passes the memory itself as descriptors (`SCM_RIGHTS`). This module is the format;
//! it does no I/O.
//!
//! ## Messages
//!
//! All integers are little-endian. A message is at most [`MAX_MESSAGE`] bytes long:
//!
//! | offset | type | field | meaning |
//! |---|---|---|---|
//! | 0 | u32 | magic | [`MAGIC`]: the protocol and its incompatible version in one word |
//! | 4 | u16 | version | of the sender, from 1 on; information only |
//! | 6 | u16 | kind | see below |
//! | 8 | u32 | len | of the whole message in bytes; that of the packet |
//! | 12 | u32 | id | of the request, repeated in every message of its answer; 0 in what nobody asked for |
//! | 16 | | body | by kind |
//!
//! | kind | from | body | descriptors |
//! |---|---|---|---|
//! | 1 list | consumer | u32 flags (1: follow), u32 0 | |
//! | 2 attach | consumer | u64 incarnation (0: any), u32 name length, u32 0, name | |
//! | 16 welcome | daemon | u32 longest message that it takes, u32 0 | 1: a pidfd of the daemon, or none |
//! | 17 domain | daemon | u64 incarnation, u64 length in bytes, u32 descriptors in all, u32 name length, name | of an attach: the first of them, at most [`MAX_FDS`]; of a list: none |
//! | 18 frames | daemon | u32 index of the first, u32 0 | the next ones, at most [`MAX_FDS`] |
//! | 19 end | daemon | u32 domains that were listed, u32 0 | |
//! | 20 gone | daemon | u64 incarnation, u32 name length, u32 0, name | |
//! | 21 error | daemon | u32 [`Refusal`], u32 0 | |
//!
//! A daemon says *welcome* to who connects, or sends an *error* and closes. It answers one request
//! after the other, in their order: *list* by a *domain* for each, then *end*; *attach* by a
//! *domain* with its descriptors, and as many *frames* as are needed for the rest. With the flag
//! *follow* it goes on after *end*: a *domain* for each that is added, which may be sent twice, *gone*
//! for each that is taken away. A domain has one descriptor, of a memfd, or, if its records have frames of their
//! own, one for each of the region's frames ([`crate::Geometry::frames`]), in order. A consumer also takes that of
//! the dom record, one for each vCPU, and one for what follows them, which earlier producers have.
//!
//! As long as the connection stands the daemon lives; that it closes is how its end is noticed.
//!
//! ## Rules
//!
//! * What is received is an allegation: it is parsed by [`Request::parse`] or [`Reply::parse`],
//!   and only the result is used. A daemon closes the connection of who sends what cannot be
//!   parsed; a kind that it does not know it answers with an *error*.
//! * Descriptors are memfds sealed against shrinking, growing, future writing and further sealing,
//!   opened for reading only. A consumer refuses what is not sealed or not allocated to its end, and
//!   validates the region as any other.
//! * Bodies grow at their end only, and who receives a longer one uses what it knows. Reserved
//!   words are sent as 0 and not looked at. An incompatible change would be a new magic.

use core::fmt;

use crate::header::MAX_VCPUS;

mod codec;

use codec::{HEADER_LEN, Writer, open};

/// `DHO` and the incompatible version 1, as bytes of a packet.
pub const MAGIC: u32 = u32::from_le_bytes(*b"DHO\x01");
/// The version of this build.
pub const VERSION: u16 = 1;
/// Longest message in bytes.
pub const MAX_MESSAGE: usize = 512;
/// Longest name of a domain in bytes.
pub const MAX_NAME: usize = 255;
/// Most descriptors of one message.
pub const MAX_FDS: usize = 64;
/// Most descriptors of one domain: a dom record, its vCPUs, what follows them.
pub const MAX_DOMAIN_FDS: u32 = MAX_VCPUS + 2;

const FOLLOW: u32 = 1;

/// A message of this build, encoded.
pub type Buffer = [u8; MAX_MESSAGE];

/// What a consumer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Every domain that is served.
    List {
        /// Whether to go on with what changes from then on.
        follow: bool,
    },
    /// The descriptors of one domain.
    Attach {
        /// Which region of that name; 0 for any.
        incarnation: u64,
        /// The domain's name.
        name: &'a str,
    },
}

/// What a daemon says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The connection was accepted.
    Welcome {
        /// Longest message that the daemon takes.
        max_message: u32,
    },
    /// A domain that is served.
    Domain(Domain<'a>),
    /// More descriptors of the domain that was attached to.
    Frames {
        /// Position of the first of them among the domain's.
        first: u32,
    },
    /// The list is complete.
    End {
        /// Domains that were listed.
        nr: u32,
    },
    /// A domain is no longer served.
    Gone {
        /// Which region it was.
        incarnation: u64,
        /// The domain's name.
        name: &'a str,
    },
    /// A request, or a connection, was refused.
    Error(Refusal),
}

/// A domain, as a daemon alleges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain<'a> {
    /// The region's incarnation, as in its header.
    pub incarnation: u64,
    /// Bytes of the region.
    pub len: u64,
    /// Descriptors that attaching brings, 1 to [`MAX_DOMAIN_FDS`].
    pub nr_fds: u32,
    /// The domain's name.
    pub name: &'a str,
}

/// Why a daemon refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// 1: no domain of that name and incarnation is served.
    NoSuchDomain,
    /// 2: the peer is not among those who may read.
    NotAdmitted,
    /// 3: the daemon does not know this kind of request.
    UnknownRequest,
    /// 4: the daemon has as many clients as it takes.
    Busy,
    /// A number that this build does not know.
    Other(u32),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchDomain => write!(f, "no such domain is served there"),
            Self::NotAdmitted => write!(f, "this user is not admitted"),
            Self::UnknownRequest => write!(f, "it does not know such requests"),
            Self::Busy => write!(f, "it has too many clients: try again later"),
            Self::Other(n) => write!(f, "it refused, for reason {n}"),
        }
    }
}

impl core::error::Error for Refusal {}

impl Refusal {
    const fn number(self) -> u32 {
        match self {
            Self::NoSuchDomain => 1,
            Self::NotAdmitted => 2,
            Self::UnknownRequest => 3,
            Self::Busy => 4,
            Self::Other(n) => n,
        }
    }

    const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::NoSuchDomain,
            2 => Self::NotAdmitted,
            3 => Self::UnknownRequest,
            4 => Self::Busy,
            n => Self::Other(n),
        }
    }
}

/// Why a packet is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// Shorter than its kind is.
    TooShort {
        /// Bytes there are.
        found: usize,
        /// Bytes that its kind, or the lengths in it, ask for.
        needed: usize,
    },
    /// Another protocol, or an incompatible version of this one.
    Magic {
        /// The word found.
        found: u32,
    },
    /// `len` is not the packet's length.
    Length {
        /// What it says.
        stated: u32,
        /// Bytes there are.
        found: usize,
    },
    /// Not one that this side is sent; answered, not punished.
    Kind {
        /// The kind.
        kind: u16,
        /// The request's id.
        id: u32,
    },
    /// A name that is empty, too long, or no text.
    Name,
    /// A number of descriptors that no domain has.
    Descriptors {
        /// How many.
        found: u32,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { found, needed } => {
                write!(f, "the message has {found} bytes and needs {needed}")
            }
            Self::Magic { found } => {
                write!(f, "not the hand-over protocol: magic {found:#010x}, expected {MAGIC:#010x}")
            }
            Self::Length { stated, found } => {
                write!(f, "the message says that it has {stated} bytes, and has {found}")
            }
            Self::Kind { kind, id } => write!(f, "unknown kind of message {kind} (request {id})"),
            Self::Name => write!(f, "a domain's name is 1 to {MAX_NAME} bytes of text"),
            Self::Descriptors { found } => write!(f, "a domain with {found} descriptors"),
        }
    }
}

impl core::error::Error for MessageError {}

/// Whether a domain of this name can be handed over.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.contains('\0')
}

impl<'a> Request<'a> {
    /// The message in `packet`, and the request's id.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn parse(packet: &'a [u8]) -> Result<(u32, Self), MessageError> {
        let (kind, id, mut body) = open(packet)?;
        let request = match kind {
            1 => Self::List { follow: body.word()? & FOLLOW != 0 },
            2 => {
                let (incarnation, len, _) = (body.u64()?, body.u32()?, body.u32()?);
                Self::Attach { incarnation, name: body.name(len)? }
            }
            kind => return Err(MessageError::Kind { kind, id }),
        };
        Ok((id, request))
    }

    /// Writes the message; `None` for a name that is no name ([`is_name`]).
    pub fn encode(self, id: u32, to: &mut Buffer) -> Option<&[u8]> {
        match self {
            Self::List { follow } => {
                let mut writer = Writer::new(to, 1, id);
                writer.u32(if follow { FOLLOW } else { 0 });
                writer.u32(0);
                writer.end("")
            }
            Self::Attach { incarnation, name } => {
                let mut writer = Writer::new(to, 2, id);
                writer.u64(incarnation);
                writer.name_len(name);
                writer.u32(0);
                if is_name(name) { writer.end(name) } else { None }
            }
        }
    }
}

impl<'a> Reply<'a> {
    /// The message in `packet`, and the id of the request that it answers.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn parse(packet: &'a [u8]) -> Result<(u32, Self), MessageError> {
        let (kind, id, mut body) = open(packet)?;
        let reply = match kind {
            16 => Self::Welcome { max_message: body.word()? },
            17 => {
                let (incarnation, len) = (body.u64()?, body.u64()?);
                let (nr_fds, name_len) = (body.u32()?, body.u32()?);
                if nr_fds == 0 || nr_fds > MAX_DOMAIN_FDS {
                    return Err(MessageError::Descriptors { found: nr_fds });
                }
                Self::Domain(Domain { incarnation, len, nr_fds, name: body.name(name_len)? })
            }
            18 => Self::Frames { first: body.word()? },
            19 => Self::End { nr: body.word()? },
            20 => {
                let (incarnation, len, _) = (body.u64()?, body.u32()?, body.u32()?);
                Self::Gone { incarnation, name: body.name(len)? }
            }
            21 => Self::Error(Refusal::from_number(body.word()?)),
            kind => return Err(MessageError::Kind { kind, id }),
        };
        Ok((id, reply))
    }

    /// Writes the message; `None` for a name that is no name ([`is_name`]).
    pub fn encode(self, id: u32, to: &mut Buffer) -> Option<&[u8]> {
        let (kind, word) = match self {
            Self::Welcome { max_message } => (16, max_message),
            Self::Frames { first } => (18, first),
            Self::End { nr } => (19, nr),
            Self::Error(refusal) => (21, refusal.number()),
            Self::Domain(Domain { incarnation, len, nr_fds, name }) => {
                let mut writer = Writer::new(to, 17, id);
                writer.u64(incarnation);
                writer.u64(len);
                writer.u32(nr_fds);
                writer.name_len(name);
                return if is_name(name) { writer.end(name) } else { None };
            }
            Self::Gone { incarnation, name } => {
                let mut writer = Writer::new(to, 20, id);
                writer.u64(incarnation);
                writer.name_len(name);
                writer.u32(0);
                return if is_name(name) { writer.end(name) } else { None };
            }
        };
        let mut writer = Writer::new(to, kind, id);
        writer.u32(word);
        writer.u32(0);
        writer.end("")
    }
}

// The longest message: a domain with the longest name.
const _: () = assert!(HEADER_LEN + 24 + MAX_NAME <= MAX_MESSAGE);

#[cfg(test)]
mod tests;
