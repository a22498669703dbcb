//! Cables as a container has them: what a host on this machine sends comes with a checksum that is yet
//! to be made, and several datagrams may come in one frame that is yet to be cut. A program is shown
//! both as if they were one whole datagram, and has to leave them to the stack.
#![allow(unsafe_code, reason = "UDP_SEGMENT has no safe wrapper in the standard library")]

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{CHANNEL, Call};
use turnwire_tests::client::{channel_data, receive};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};
use turnwire_tests::wait::{Deadline, SOON};

use crate::af_xdp::{PUNTING, queues_are_open};

/// Few and short, so that all of them together would fit one packet.
const COUNT: u8 = 5;
const DATA_LEN: usize = 100;

#[test]
fn what_is_left_to_a_card_is_forwarded_whole_by_a_program_in_the_stack() {
    let generic = Launch::of(Tier::Generic);
    in_lab(Topology::TwoArmed, |lab| arrives_as_it_was_sent(lab, &generic));
}

#[test]
fn what_is_left_to_a_card_is_forwarded_whole_by_a_program_in_the_driver() {
    in_lab(Topology::TwoArmed, |lab| arrives_as_it_was_sent(lab, &PUNTING));
}

fn arrives_as_it_was_sent(lab: &Lab, launch: &Launch) -> Result<()> {
    for host in [Host::Client, Host::Peer] {
        lab.run(host, &["ethtool", "-K", "eth0", "tx", "on", "gso", "on"])?;
    }
    let relay = RelayUnderTest::launch(lab, launch)?;
    if launch.options.contains(&"--af-xdp") {
        queues_are_open(lab, &relay)?;
    }
    for outer in Family::ALL {
        for inner in Family::ALL {
            let mut call = Call::set_up(lab, outer, inner)?;
            call.exchanges_indications(lab, 3)?;
            for direction in Direction::ALL {
                in_one_go(&call, direction)
                    .with_context(|| format!("{outer:?}, {inner:?}, {direction:?}"))?;
            }
        }
    }
    let labels = [("tier", "xdp"), ("reason", "unfinished_checksum")];
    let unfinished = relay.metrics()?.sum("turnwire_refused_packets_total", &labels);
    ensure!(unfinished > 0, "the program was shown nothing of the kind");
    Ok(())
}

/// Several datagrams in one call (udp(7), UDP_SEGMENT), which are to be told apart again.
fn in_one_go(call: &Call, direction: Direction) -> Result<()> {
    let wrapped = |data: &[u8]| channel_data(CHANNEL, data);
    let (from, to) = match direction {
        Direction::ToPeer => (call.client.socket(), &call.peer),
        Direction::ToClient => (&call.peer, call.client.socket()),
    };
    let data = (1..=COUNT).map(|number| [number; DATA_LEN]);
    let (sent, wanted): (Vec<_>, Vec<_>) = match direction {
        Direction::ToPeer => data.map(|data| (wrapped(&data), data.to_vec())).unzip(),
        Direction::ToClient => data.map(|data| (data.to_vec(), wrapped(&data))).unzip(),
    };
    cut_by(from, sent[0].len())?;
    ensure!(from.send(&sent.concat())? == sent.concat().len());
    cut_by(from, 0)?;
    for wanted in wanted {
        let came = receive(to, Deadline::after(SOON))?.context("nothing came")?;
        ensure!(came == wanted, "{} bytes came: {came:02x?}", came.len());
    }
    Ok(())
}

fn cut_by(socket: &UdpSocket, size: usize) -> Result<()> {
    let size = size as libc::c_int;
    let (option, bytes) = (&raw const size, size_of_val(&size) as libc::socklen_t);
    // SAFETY: `option` points to a number of so many bytes, which lives through the call.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, option.cast(), bytes)
    };
    ensure!(done == 0, "UDP_SEGMENT: {}", std::io::Error::last_os_error());
    Ok(())
}
