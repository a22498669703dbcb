//! The host's IPsec policies: read whole, and read again when the kernel says that they changed.
//!
//! ```text
//! | nlmsghdr 16 | selector 56: to 16, from 16, ports 8, family 2, lengths 1+1, protocol 1, ... |
//! | lifetimes 96 | priority 4 | index 4 | direction 1 | action 1 | flags 1 | share 1 | 0 4 | attributes |
//! ```
//!
//! `struct xfrm_userpolicy_info` of `linux/xfrm.h`. The kernel tells them to CAP_NET_ADMIN only.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NlasIterator};
use netlink_sys::{Socket, protocols::NETLINK_XFRM};

use super::facts::Prefix;
use super::requests::{
    DATAGRAM_MAX, Messages, Refusal, receive, receive_whole, socket_for_questions,
};
use crate::kernel::secured::{Policy, Secured};

/// `XFRMNLGRP_POLICY`.
const CHANGES: u32 = 4;
/// `XFRM_MSG_NEWPOLICY`, `XFRM_MSG_GETPOLICY`, `XFRM_MSG_GETDEFAULT` (new in Linux 5.15).
const NEW_POLICY: u16 = 0x13;
const GET_POLICY: u16 = 0x15;
const GET_DEFAULT: u16 = 0x28;
/// Bytes of a message's header, of `struct xfrm_userpolicy_id`, and of `struct xfrm_userpolicy_info`.
const HEADER_LEN: usize = 16;
const ID_LEN: usize = 64;
const INFO_LEN: usize = 168;

/// A connection to the kernel's IPsec subsystem.
pub(crate) struct Policies {
    questions: Socket,
    news: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Policies {
    /// Opens it in the calling thread's network namespace. `None`: this kernel has no such policies.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN.
    pub(crate) fn open() -> io::Result<Option<Policies>> {
        let questions = match socket_for_questions(NETLINK_XFRM) {
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(None),
            socket => socket?,
        };
        let mut news = Socket::new(NETLINK_XFRM)?;
        news.bind_auto()?;
        news.set_non_blocking(true)?;
        news.add_membership(CHANGES)?;
        Ok(Some(Policies { questions, news, buffer: vec![0; DATAGRAM_MAX], sequence: 0 }))
    }

    /// Readable when there is news.
    pub(crate) fn news_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// Reads one datagram of news. False when there is none; whatever it says, everything is to be
    /// read again.
    pub(crate) fn read_news(&mut self) -> bool {
        match receive(&self.news, &mut self.buffer) {
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => true,
        }
    }

    /// All that are in force.
    ///
    /// # Errors
    /// The kernel's refusal, or the socket's failure.
    pub(crate) fn read(&mut self) -> Result<Secured, Refusal> {
        let mut secured = Secured::default();
        self.ask(GET_POLICY, NLM_F_DUMP, ID_LEN, &mut |kind, body| {
            if kind == NEW_POLICY
                && let Some(policy) = policy(body)
            {
                secured.add(policy);
            }
        })?;
        // what is not allowed by a policy is refused: nothing is ours to send or take in by itself
        const BLOCK: u8 = 1;
        let mut blocks = false;
        let asked = self.ask(GET_DEFAULT, 0, 4, &mut |kind, body| {
            if kind == GET_DEFAULT
                && let [inbound, _, outbound, ..] = *body
            {
                blocks = inbound == BLOCK || outbound == BLOCK;
            }
        });
        match asked {
            // before Linux 5.15 all is accepted
            Err(refusal) if refusal.errno() == Some(libc::EINVAL) => {}
            asked => asked?,
        }
        if blocks {
            secured.add_all();
        }
        Ok(secured)
    }

    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        len: usize,
        answer: &mut dyn FnMut(u16, &[u8]),
    ) -> Result<(), Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = vec![0; HEADER_LEN + len];
        let mut header = NetlinkBuffer::new(&mut bytes);
        header.set_length((HEADER_LEN + len) as u32);
        header.set_message_type(kind);
        header.set_flags(NLM_F_REQUEST | flags);
        header.set_sequence_number(self.sequence);
        self.questions.send(&bytes, 0)?;
        loop {
            let datagram = receive_whole(&self.questions, &mut self.buffer)?;
            if read_answer(datagram, self.sequence, flags == NLM_F_DUMP, answer)? {
                return Ok(());
            }
        }
    }
}

/// Reads one datagram of the answer to `sequence`. True when it ends there.
fn read_answer(
    datagram: &[u8],
    sequence: u32,
    dump: bool,
    answer: &mut dyn FnMut(u16, &[u8]),
) -> Result<bool, Refusal> {
    /// `NLMSG_ERROR` and `NLMSG_DONE`.
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    for message in Messages(datagram) {
        let header = NetlinkBuffer::new(message);
        if header.sequence_number() != sequence {
            continue; // of a question that timed out
        }
        let body = message.get(HEADER_LEN..).unwrap_or_default();
        match header.message_type() {
            DONE => return Ok(true),
            ERROR => {
                let code =
                    body.first_chunk().map_or(-libc::EINVAL, |code| i32::from_ne_bytes(*code));
                return match code {
                    0 => Ok(true),
                    code => Err(io::Error::from_raw_os_error(-code).into()),
                };
            }
            kind => {
                answer(kind, body);
                if !dump {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// What a policy demands; `None` for one that asks nothing of datagrams as the relay's sockets send and
/// receive them.
fn policy(body: &[u8]) -> Option<Policy> {
    /// `XFRM_POLICY_IN`, `XFRM_POLICY_OUT`; what is forwarded by the host is not ours.
    const IN: u8 = 0;
    const OUT: u8 = 1;
    const BLOCK: u8 = 1;
    const ATTRIBUTE_TEMPLATES: u16 = 5;
    const ATTRIBUTE_MARK: u16 = 21;
    const ATTRIBUTE_INTERFACE: u16 = 31;
    let info: &[u8; INFO_LEN] = body.first_chunk()?;
    let (protocol, direction, action) = (info[44], info[160], info[161]);
    if !matches!(i32::from(protocol), 0 | libc::IPPROTO_UDP) {
        return None;
    }
    let (mut transforms, mut elsewhere) = (false, false);
    for attribute in NlasIterator::new(&body[INFO_LEN..]).filter_map(Result::ok) {
        // a mark that none of our sockets has; an interface of IPsec's own
        let first = || attribute.value().first_chunk().map_or(0, |word| u32::from_ne_bytes(*word));
        match attribute.kind() {
            ATTRIBUTE_TEMPLATES => transforms = !attribute.value().is_empty(),
            ATTRIBUTE_MARK | ATTRIBUTE_INTERFACE => elsewhere |= first() != 0,
            _ => {}
        }
    }
    if elsewhere || !(transforms || action == BLOCK) {
        return None;
    }
    let family = i32::from(u16::from_ne_bytes([info[40], info[41]]));
    let [to, from] = [(0, info[42]), (16, info[43])].map(|(at, len)| {
        let address = info[at..at + 16].try_into().unwrap_or([0; 16]);
        Prefix { address: address_of(family, address), len }
    });
    match direction {
        IN => Some(Policy { local: to, remote: from }),
        OUT => Some(Policy { local: from, remote: to }),
        _ => None,
    }
}

fn address_of(family: i32, bytes: [u8; 16]) -> IpAddr {
    match family {
        libc::AF_INET => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
        _ => Ipv6Addr::from(bytes).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::paths::Path;
    use crate::kernel::testing::{in_namespace, ip};

    fn open() -> Option<Policies> {
        let policies = Policies::open().unwrap();
        if policies.is_none() {
            eprintln!("skipped: this kernel has no IPsec policies (XFRM_USER)");
        }
        policies
    }

    fn concerns(secured: &Secured, from: &str, to: &str) -> bool {
        secured.concern(Path::between(from.parse().unwrap(), to.parse().unwrap()))
    }

    #[test]
    fn policies_are_read_as_the_kernel_tells_them() {
        in_namespace(|| {
            let Some(mut policies) = open() else { return };
            assert_eq!(policies.read().unwrap(), Secured::default());
            assert!(!policies.read_news());
            for (selector, demand) in [
                ("src 192.0.2.1 dst 198.51.100.0/24 dir out", "tmpl proto esp mode transport"),
                ("src 203.0.113.7 dst 192.0.2.1 dir in", "action block"),
                (
                    "src 2001:db8::1 dst 2001:db8:9::/48 proto udp dir out",
                    "tmpl proto ah mode transport",
                ),
                // these ask nothing of our datagrams
                ("src 192.0.2.1 dst 10.1.0.0/16 dir out", ""),
                (
                    "src 192.0.2.1 dst 10.2.0.0/16 proto tcp dir out",
                    "tmpl proto esp mode transport",
                ),
                ("src 10.3.0.0/16 dst 192.0.2.1 dir fwd", "tmpl proto esp mode transport"),
                ("src 192.0.2.1 dst 10.4.0.0/16 dir out mark 7", "tmpl proto esp mode transport"),
                ("src 192.0.2.1 dst 10.5.0.0/16 dir out if_id 7", "tmpl proto esp mode transport"),
            ] {
                ip(&format!("xfrm policy add {selector} {demand}"));
                assert!(policies.read_news(), "{selector}");
            }
            let secured = policies.read().unwrap();
            assert_eq!(secured.count(), 3);
            assert!(concerns(&secured, "192.0.2.1", "198.51.100.9"));
            assert!(concerns(&secured, "192.0.2.1", "203.0.113.7"));
            assert!(concerns(&secured, "2001:db8::1", "2001:db8:9::1"));
            for (from, to) in [
                ("192.0.2.2", "198.51.100.9"),
                ("192.0.2.1", "198.51.101.9"),
                ("192.0.2.1", "203.0.113.8"),
                ("192.0.2.1", "10.1.0.1"),
                ("192.0.2.1", "10.2.0.1"),
                ("192.0.2.1", "10.3.0.1"),
                ("192.0.2.1", "10.4.0.1"),
                ("192.0.2.1", "10.5.0.1"),
                ("2001:db8::1", "2001:db8:a::1"),
            ] {
                assert!(!concerns(&secured, from, to), "{from} to {to}");
            }
            ip("xfrm policy flush");
            assert!(policies.read_news());
            assert_eq!(policies.read().unwrap(), Secured::default());
        });
    }

    #[test]
    fn a_kernel_that_blocks_what_no_policy_allows_has_everything_go_by_the_stack() {
        in_namespace(|| {
            let Some(mut policies) = open() else { return };
            ip("xfrm policy setdefault out block");
            assert!(policies.read_news());
            assert!(concerns(&policies.read().unwrap(), "192.0.2.1", "198.51.100.9"));
            ip("xfrm policy setdefault out accept");
            assert!(policies.read_news());
            assert_eq!(policies.read().unwrap(), Secured::default());
        });
    }

    #[test]
    fn more_policies_than_fit_one_answer_are_all_read() {
        in_namespace(|| {
            let Some(mut policies) = open() else { return };
            let template = "tmpl proto esp mode transport";
            let line = |n: u32| format!("xfrm policy add dst 10.0.{n}.0/24 dir out {template}\n");
            let batch: String = (0..250).map(line).collect();
            let file =
                std::env::temp_dir().join(format!("turnwire-policies-{}", std::process::id()));
            std::fs::write(&file, batch).unwrap();
            ip(&format!("-batch {}", file.display()));
            std::fs::remove_file(file).unwrap();
            assert_eq!(policies.read().unwrap().count(), 250);
        });
    }
}
