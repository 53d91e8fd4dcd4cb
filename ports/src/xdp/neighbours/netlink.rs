//! Questions to the kernel's routing side, and its news (rtnetlink(7)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NlasIterator};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Bytes of one answer, which has many messages: what the kernel never exceeds.
const ANSWER_BYTES: usize = 64 << 10;
/// Bytes of a netlink message's header.
const HEADER_BYTES: usize = 16;

const DONE: u16 = libc::NLMSG_DONE as u16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;

/// What the kernel can be asked for, all entries of all devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Question {
    Links,
    Addresses,
    Routes,
    Neighbours,
}

impl Question {
    /// The type of the messages that answer it, that of the question, and the fixed part that
    /// begins either.
    const fn layout(self) -> (u16, u16, usize) {
        match self {
            Question::Links => (libc::RTM_NEWLINK, libc::RTM_GETLINK, 16),
            Question::Addresses => (libc::RTM_NEWADDR, libc::RTM_GETADDR, 8),
            Question::Routes => (libc::RTM_NEWROUTE, libc::RTM_GETROUTE, 12),
            Question::Neighbours => (libc::RTM_NEWNEIGH, libc::RTM_GETNEIGH, 12),
        }
    }

    /// Which answers a message of the kernel's own accord changes.
    fn changed_by(message_type: u16) -> Option<Question> {
        match message_type {
            libc::RTM_NEWLINK | libc::RTM_DELLINK => Some(Question::Links),
            libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(Question::Addresses),
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => Some(Question::Routes),
            libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => Some(Question::Neighbours),
            _ => None,
        }
    }
}

/// One entry of an answer.
#[derive(Clone, Debug)]
pub(in super::super) struct Answer {
    /// The fixed part, in the machine's byte order.
    fixed: Vec<u8>,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Answer {
    pub(super) fn parse(payload: &[u8], fixed_bytes: usize) -> Option<Self> {
        let (fixed, rest) = payload.split_at_checked(fixed_bytes)?;
        // The kernel's own messages are well formed; what cannot be read is left out.
        let attributes = NlasIterator::new(rest)
            .map_while(Result::ok)
            .map(|attribute| (attribute.kind(), attribute.value().to_vec()))
            .collect();
        Some(Answer { fixed: fixed.to_vec(), attributes })
    }

    pub(in super::super) fn byte(&self, at: usize) -> u8 {
        self.fixed.get(at).copied().unwrap_or_default()
    }

    pub(in super::super) fn half(&self, at: usize) -> u16 {
        u16::from_ne_bytes([self.byte(at), self.byte(at + 1)])
    }

    pub(in super::super) fn word(&self, at: usize) -> u32 {
        u32::from_ne_bytes(std::array::from_fn(|byte| self.byte(at + byte)))
    }

    /// An attribute's bytes.
    pub(in super::super) fn attribute(&self, kind: u16) -> Option<&[u8]> {
        self.attributes.iter().find(|(found, _)| *found == kind).map(|(_, value)| &value[..])
    }

    /// An attribute that is a number of 32 bits.
    pub(in super::super) fn attribute_word(&self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(*self.attribute(kind)?.first_chunk()?))
    }

    /// The attributes within an attribute.
    pub(in super::super) fn nested(&self, kind: u16) -> Option<Answer> {
        Answer::parse(self.attribute(kind)?, 0)
    }
}

/// Asks the kernel. Needs no privilege.
#[derive(Debug)]
pub(in super::super) struct Asker {
    socket: OwnedFd,
    sequence: u32,
}

impl Asker {
    pub(in super::super) fn open() -> io::Result<Self> {
        Ok(Asker { socket: open(0, SocketFlags::CLOEXEC)?, sequence: 0 })
    }

    /// All that the kernel answers.
    pub(in super::super) fn ask(&mut self, question: Question) -> io::Result<Vec<Answer>> {
        let (answer_type, question_type, fixed_bytes) = question.layout();
        self.sequence += 1;
        let message = self.message(question_type, fixed_bytes);
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            let (bytes, _) = rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty())?;
            for message in messages(&buffer[..bytes]) {
                if message.sequence_number() != self.sequence {
                    continue;
                }
                match message.message_type() {
                    DONE => return Ok(answers),
                    ERROR => return Err(error(message.payload())),
                    found if found == answer_type => {
                        answers.extend(Answer::parse(message.payload(), fixed_bytes));
                    }
                    _ => {}
                }
            }
        }
    }

    /// A question's header, and its fixed part, which is zero: any family, any device.
    fn message(&self, question_type: u16, fixed_bytes: usize) -> Vec<u8> {
        let mut message = vec![0; HEADER_BYTES + fixed_bytes];
        let bytes = message.len() as u32;
        let mut header = NetlinkBuffer::new(&mut message[..]);
        header.set_length(bytes);
        header.set_message_type(question_type);
        header.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
        header.set_sequence_number(self.sequence);
        message
    }
}

/// Hears what changes.
#[derive(Debug)]
pub(super) struct News {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl News {
    pub(super) fn open() -> io::Result<Self> {
        let groups = libc::RTMGRP_LINK
            | libc::RTMGRP_NEIGH
            | libc::RTMGRP_IPV4_IFADDR
            | libc::RTMGRP_IPV4_ROUTE
            | libc::RTMGRP_IPV6_IFADDR
            | libc::RTMGRP_IPV6_ROUTE;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(News { socket: open(groups.cast_unsigned(), flags)?, buffer: vec![0; ANSWER_BYTES] })
    }

    /// Tells for each message that has come which question it changes the answer of.
    pub(super) fn hear(&mut self, mut changed: impl FnMut(Question)) {
        // A bound: whoever changes routes without pause must not keep us here.
        for _ in 0..256 {
            match rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((bytes, _)) => messages(&self.buffer[..bytes])
                    .filter_map(|message| Question::changed_by(message.message_type()))
                    .for_each(&mut changed),
                Err(Errno::INTR) => {}
                // More came than the socket holds: anything may have changed.
                Err(Errno::NOBUFS) => {
                    [Question::Links, Question::Addresses, Question::Routes, Question::Neighbours]
                        .into_iter()
                        .for_each(&mut changed);
                }
                Err(_) => return,
            }
        }
    }
}

impl AsFd for News {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(groups: u32, flags: SocketFlags) -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
    // No protocol means number 0, which is that of routes.
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// The messages in what one call received.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(bytes).ok()?;
        let length = (message.length() as usize).next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
        Some(message)
    })
}

fn error(payload: &[u8]) -> io::Error {
    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    io::Error::from_raw_os_error(code.saturating_neg())
}
