//! Which of the sockets that share an address a datagram goes to: the kernel asks a classic BPF program
//! of their SO_REUSEPORT group; attaching it takes no privilege.
//!
//! ```text
//!   sockets of the address, in the order of binding:
//!       listener of worker 0, 1, ... | lane 0 of worker 0, 1, ... | lane 1 of ... | session thread 0, 1, ...
//!
//!   first byte 20 to 63 ──> DTLS: a session thread's     \
//!   all else, together ───> its worker's listener         } by a hash of the client's address and port
//!   all else, spread ─────> one of its worker's lanes    /
//! ```
//!
//! The first byte tells plain UDP from DTLS (RFC 7983), so that neither has to look at what is the
//! other's. A client has the same worker in every case.
#![expect(unsafe_code, reason = "attaching a socket filter takes a pointer to it")]

use libc::sock_filter;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Offset of the network header for loads.
const NET: u32 = libc::SKF_NET_OFF as u32;

/// An odd number whose multiples scatter (2^32 / golden ratio).
const SCATTER: u32 = 0x9E37_79B1;

/// The sockets of one address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// UDP workers, each with a listener: at least one.
    pub(super) workers: u32,
    /// Further sockets of each.
    pub(super) lanes: u32,
    /// DTLS comes to this address, too: to as many session threads as there are workers.
    pub(super) dtls: bool,
    /// The address family.
    pub(super) v4: bool,
}

/// A socket's place in a group, as the program picks it: one of `count` from `first` on.
#[derive(Clone, Copy)]
struct Places {
    first: u32,
    count: u32,
}

/// The programs of a group.
#[derive(Debug)]
pub(super) struct Programs {
    together: Vec<sock_filter>,
    spread: Vec<sock_filter>,
}

impl Programs {
    pub(super) fn new(group: Group) -> Self {
        let Group { workers, lanes, .. } = group;
        let listeners = Places { first: 0, count: workers };
        // without lanes the two are one
        let lanes = Places { first: workers, count: workers * lanes };
        let lanes = if lanes.count == 0 { listeners } else { lanes };
        Self { together: program(group, listeners), spread: program(group, lanes) }
    }

    /// Attaches one of them to the group that `socket` is in; from then on it decides.
    ///
    /// # Errors
    /// As setsockopt(2): a kernel without SO_ATTACH_REUSEPORT_CBPF, or out of memory.
    pub(super) fn attach(&self, socket: BorrowedFd<'_>, spread: bool) -> io::Result<()> {
        let code = if spread { &self.spread } else { &self.together };
        let filter = code.as_ptr().cast_mut();
        let program = libc::sock_fprog { len: code.len() as u16, filter };
        // SAFETY: `program` names `code` with its length, both live through the call, and the size
        // given is that of the structure; the kernel copies and checks the program, and writes
        // nothing.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_REUSEPORT_CBPF,
                (&raw const program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// The program: returns the index of a socket. Loads beyond the datagram return 0.
fn program(group: Group, plain: Places) -> Vec<sock_filter> {
    use libc::{
        BPF_ABS, BPF_ADD, BPF_ALU, BPF_B, BPF_H, BPF_IMM, BPF_IND, BPF_JA, BPF_JEQ, BPF_JGE,
        BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_LSH, BPF_MEM, BPF_MISC, BPF_MOD, BPF_MSH,
        BPF_MUL, BPF_RET, BPF_RSH, BPF_ST, BPF_STX, BPF_TAX, BPF_W, BPF_X, BPF_XOR,
    };
    /// `BPF_A` of `BPF_RET`, which the library does not name.
    const BPF_A: u32 = 0x10;
    let op = |code: u32, jt: u8, jf: u8, k: u32| sock_filter { code: code as u16, jt, jf, k };
    let Group { workers, lanes, .. } = group;
    let dtls = Places { first: workers * (lanes + 1), count: workers };
    let dtls = if group.dtls { dtls } else { plain };
    // the payload's first byte; then for its kind the first place into M[0], and how many there are
    // into M[1]
    let mut code = vec![
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0),
        op(BPF_JMP | BPF_JGE | BPF_K, 0, 4, 20),
        op(BPF_JMP | BPF_JGT | BPF_K, 3, 0, 63),
        op(BPF_LD | BPF_IMM, 0, 0, dtls.first),
        op(BPF_LDX | BPF_IMM, 0, 0, dtls.count),
        op(BPF_JMP | BPF_JA, 0, 0, 2),
        op(BPF_LD | BPF_IMM, 0, 0, plain.first),
        op(BPF_LDX | BPF_IMM, 0, 0, plain.count),
        op(BPF_ST, 0, 0, 0),
        op(BPF_STX, 0, 0, 1),
    ];
    // the client's port, with the words of its address
    let words: &[u32] = if group.v4 { &[12] } else { &[8, 12, 16, 20] };
    if group.v4 {
        // behind the options
        code.push(op(BPF_LDX | BPF_B | BPF_MSH, 0, 0, NET));
        code.push(op(BPF_LD | BPF_H | BPF_IND, 0, 0, NET));
    } else {
        // behind an extension header, where there is one (fragments are whole again): its second byte
        // is its length in 8 bytes without the first 8 (RFC 8200 section 4)
        code.extend([
            op(BPF_LD | BPF_B | BPF_ABS, 0, 0, NET.wrapping_add(6)),
            op(BPF_JMP | BPF_JEQ | BPF_K, 4, 0, libc::IPPROTO_UDP as u32),
            op(BPF_LD | BPF_B | BPF_ABS, 0, 0, NET.wrapping_add(41)),
            op(BPF_ALU | BPF_ADD | BPF_K, 0, 0, 1),
            op(BPF_ALU | BPF_LSH | BPF_K, 0, 0, 3),
            op(BPF_JMP | BPF_JA, 0, 0, 1),
            op(BPF_LD | BPF_IMM, 0, 0, 0),
            op(BPF_MISC | BPF_TAX, 0, 0, 0),
            op(BPF_LD | BPF_H | BPF_IND, 0, 0, NET.wrapping_add(40)),
        ]);
    }
    for word in words {
        code.push(op(BPF_MISC | BPF_TAX, 0, 0, 0));
        code.push(op(BPF_LD | BPF_W | BPF_ABS, 0, 0, NET.wrapping_add(*word)));
        code.push(op(BPF_ALU | BPF_XOR | BPF_X, 0, 0, 0));
    }
    code.extend([
        op(BPF_ALU | BPF_MUL | BPF_K, 0, 0, SCATTER),
        op(BPF_ALU | BPF_RSH | BPF_K, 0, 0, 16),
        op(BPF_LDX | BPF_MEM, 0, 0, 1),
        op(BPF_ALU | BPF_MOD | BPF_X, 0, 0, 0),
        op(BPF_MISC | BPF_TAX, 0, 0, 0),
        op(BPF_LD | BPF_MEM, 0, 0, 0),
        op(BPF_ALU | BPF_ADD | BPF_X, 0, 0, 0),
        op(BPF_RET | BPF_A, 0, 0, 0),
    ]);
    code
}

#[cfg(test)]
mod tests {
    use super::super::{BufferSizes, bind_listener};
    use super::*;
    use std::collections::BTreeMap;
    use std::net::UdpSocket;
    use std::time::Duration;

    #[test]
    fn each_kind_reaches_its_sockets_and_a_client_always_the_same() {
        for (ip, spread) in
            [("127.0.0.1", false), ("::1", false), ("127.0.0.1", true), ("::1", true)]
        {
            // given two workers' listeners, two lanes of each, then two session threads' sockets
            let mut address = format!("{}:0", if ip.contains(':') { "[::1]" } else { ip });
            let sizes = BufferSizes { receive: 1 << 20, send: 1 << 20 };
            let group: Vec<_> = (0..8)
                .map(|_| {
                    let bound = bind_listener(address.parse().unwrap(), true, sizes).unwrap();
                    address = bound.local().to_string();
                    bound
                })
                .collect();
            let of = Group { workers: 2, lanes: 2, dtls: true, v4: !ip.contains(':') };
            Programs::new(of).attach(group[0].descriptor(), spread).unwrap();
            let sockets: Vec<UdpSocket> = group
                .iter()
                .map(|bound| bound.descriptor().try_clone_to_owned().unwrap().into())
                .collect();
            // when clients send both kinds, and nothing at all
            let clients: Vec<_> = (0..64).map(|_| UdpSocket::bind((ip, 0)).unwrap()).collect();
            for client in &clients {
                for first in [0, 3, 19, 20, 22, 63, 64, 79, 255] {
                    client.send_to(&[first; 30], &address).unwrap();
                }
                client.send_to(&[], &address).unwrap();
            }
            std::thread::sleep(Duration::from_millis(50));
            // then each kind is where it belongs
            let mut homes: BTreeMap<_, Vec<usize>> = BTreeMap::new();
            for (index, socket) in sockets.iter().enumerate() {
                let mut bytes = [0; 100];
                while let Ok((size, from)) = socket.recv_from(&mut bytes) {
                    let is_dtls = size > 0 && (20..=63).contains(&bytes[0]);
                    let expected = match (is_dtls, spread) {
                        (true, _) => 6..8,
                        (false, true) => 2..6,
                        // what has no first byte goes to the first listener
                        (false, false) => 0..2,
                    };
                    let empty = size == 0 && index == 0;
                    assert!(empty || expected.contains(&index), "{ip}: {} at {index}", bytes[0]);
                    if size > 0 {
                        homes.entry((from, is_dtls)).or_default().push(index);
                    }
                }
            }
            assert_eq!(homes.len(), 128, "{ip}");
            for (of, homes) in &homes {
                assert!(homes.iter().all(|home| *home == homes[0]), "{ip}: {of:?} {homes:?}");
            }
            for ((client, is_dtls), at) in &homes {
                // one worker, its lanes and the session thread beside it
                let other = &homes[&(*client, !is_dtls)];
                assert_eq!(at[0] % 2, other[0] % 2, "{ip}: {client}");
            }
            for index in if spread { 2..8 } else { 6..8 } {
                let count = homes.values().filter(|homes| homes[0] == index).count();
                assert!((5..59).contains(&count), "{ip}: {count} clients at {index}");
            }
        }
    }
}
