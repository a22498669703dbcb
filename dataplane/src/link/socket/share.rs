//! Plain UDP and DTLS on one address: the kernel tells them apart by the first byte (RFC 7983), so
//! that neither has to look at what is the other's.
//!
//! ```text
//!   sockets of the address, in the order of binding:  worker 0, 1, ..., session thread 0, 1, ...
//!   first byte 20 to 63 ──> DTLS: a session thread's      by a hash of the client's address and
//!   all else ─────────────> plain: a worker's             port, as the kernel itself would choose
//! ```
//!
//! A classic BPF program of the SO_REUSEPORT group; attaching it takes no privilege.
#![expect(unsafe_code, reason = "attaching a socket filter takes a pointer to it")]

use super::Bound;
use std::io;
use std::os::fd::AsRawFd;

/// Offset of the network header for loads.
const NET: u32 = libc::SKF_NET_OFF as u32;

/// An odd number whose multiples scatter (2^32 / golden ratio).
const SCATTER: u32 = 0x9E37_79B1;

/// Attaches the program to the group that `socket` is in, of `workers` workers' sockets and as many
/// session threads' after them.
pub fn separate_dtls(socket: &Bound, workers: u32) -> io::Result<()> {
    let mut code = program(workers, socket.local().is_ipv4());
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    // SAFETY: `program` names `code` with its length, both live through the call, and the size
    // given is that of the structure; the kernel copies and checks the program.
    let done = unsafe {
        libc::setsockopt(
            socket.descriptor().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The program: returns the index of a socket. Loads beyond the datagram return 0.
fn program(workers: u32, is_v4: bool) -> Vec<libc::sock_filter> {
    use libc::{
        BPF_ABS, BPF_ADD, BPF_ALU, BPF_B, BPF_H, BPF_IMM, BPF_JA, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K,
        BPF_LD, BPF_MEM, BPF_MISC, BPF_MOD, BPF_MUL, BPF_RET, BPF_RSH, BPF_ST, BPF_TAX, BPF_W,
        BPF_X, BPF_XOR,
    };
    /// `BPF_A` of `BPF_RET`, which the library does not name.
    const BPF_A: u32 = 0x10;
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    // the payload's first byte; then into M[0] the index of the first socket of its kind
    let mut code = vec![
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0),
        op(BPF_JMP | BPF_JGE | BPF_K, 0, 3, 20),
        op(BPF_JMP | BPF_JGT | BPF_K, 2, 0, 63),
        op(BPF_LD | BPF_IMM, 0, 0, workers),
        op(BPF_JMP | BPF_JA, 0, 0, 1),
        op(BPF_LD | BPF_IMM, 0, 0, 0),
        op(BPF_ST, 0, 0, 0),
    ];
    // the client's port, with the words of its address
    let (port, words): (u32, &[u32]) = if is_v4 { (20, &[12]) } else { (40, &[8, 12, 16, 20]) };
    code.push(op(BPF_LD | BPF_H | BPF_ABS, 0, 0, NET.wrapping_add(port)));
    for word in words {
        code.push(op(BPF_MISC | BPF_TAX, 0, 0, 0));
        code.push(op(BPF_LD | BPF_W | BPF_ABS, 0, 0, NET.wrapping_add(*word)));
        code.push(op(BPF_ALU | BPF_XOR | BPF_X, 0, 0, 0));
    }
    code.extend([
        op(BPF_ALU | BPF_MUL | BPF_K, 0, 0, SCATTER),
        op(BPF_ALU | BPF_RSH | BPF_K, 0, 0, 16),
        op(BPF_ALU | BPF_MOD | BPF_K, 0, 0, workers.max(1)),
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
        for ip in ["127.0.0.1", "::1"] {
            // given two workers' sockets, then two session threads', on one address
            let mut address = format!("{}:0", if ip.contains(':') { "[::1]" } else { ip });
            let sizes = BufferSizes { receive: 1 << 20, send: 1 << 20 };
            let group: Vec<_> = (0..4)
                .map(|_| {
                    let bound = bind_listener(address.parse().unwrap(), true, sizes).unwrap();
                    address = bound.local().to_string();
                    bound
                })
                .collect();
            separate_dtls(&group[0], 2).unwrap();
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
                    assert_eq!(is_dtls, index >= 2, "{ip}: {} at {index}", bytes[0]);
                    if size > 0 {
                        homes.entry((from, is_dtls)).or_default().push(index);
                    }
                }
            }
            assert_eq!(homes.len(), 128, "{ip}");
            for (of, homes) in &homes {
                assert!(homes.iter().all(|home| *home == homes[0]), "{ip}: {of:?} {homes:?}");
            }
            for index in 0..4 {
                let count = homes.values().filter(|homes| homes[0] == index).count();
                assert!((10..55).contains(&count), "{ip}: {count} clients at {index}");
            }
        }
    }
}
