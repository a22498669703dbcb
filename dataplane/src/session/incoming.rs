//! From a stream's bytes to its messages: the way through PROXY header, first byte, TLS, framing.
//!
//! ```text
//!   Proxy ──> Sniff ──┬─> Open (STUN) ─────────────┐
//!     header  byte    └─> Handshake ──> Open (TLS) ┴─> cut ──> relayed, or to the control thread
//! ```

use super::desk::Desk;
use super::doors::Census;
use super::framing::{Cut, FRAME_MAX, cut};
use super::member::{Core, Flow, Phase, Taken, count_handshake};
use super::proxy::{self, Header};
use super::relay::Relay;
use super::stream::Got;
use super::{Ending, Identity, SessionCounters, doors};
use crate::route::Transport;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of one read: what a stalled connection holds at most, beside one partial message.
pub(crate) const READ_SIZE: usize = 16 << 10;

/// Memory that a connection keeps for partial messages between them.
const PARTIAL_KEPT: usize = 2 << 10;

/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a read turn needs of its thread.
pub(crate) struct Tools<'a> {
    pub(crate) desk: &'a mut Desk,
    pub(crate) relay: &'a mut Relay,
    pub(crate) census: &'a mut Census,
    pub(crate) counters: &'a SessionCounters,
    pub(crate) identity: Option<&'a Arc<Identity>>,
    pub(crate) input: &'a mut [u8],
    pub(crate) plain: &'a mut Vec<u8>,
    pub(crate) now: Duration,
}

/// Reads once from a connection that may be readable, and deals with what came.
pub(crate) fn turn(core: &mut Core, flow: &mut Flow, tools: &mut Tools<'_>) -> Result<(), Ending> {
    let size = match flow.stream.read(tools.input) {
        Got::Bytes(size) => size,
        Got::Nothing => {
            flow.readable = false;
            return Ok(());
        }
        Got::End => return Err(Ending::Client),
        Got::Broken => return Err(Ending::Failed),
    };
    // A short read has taken everything; only an end that is there already needs another.
    flow.readable = size == tools.input.len() || flow.read_closed;
    tools.counters.bytes_in.add(size as u64);
    // the thread's buffers are lent while its other parts are at work
    let input = std::mem::take(&mut tools.input);
    let done = bytes(core, flow, &input[..size], tools);
    tools.input = input;
    done
}

/// Deals with what has waited while the connection was paused.
pub(crate) fn resume(
    core: &mut Core,
    flow: &mut Flow,
    tools: &mut Tools<'_>,
) -> Result<(), Ending> {
    flow.stalled = false;
    let waited = std::mem::take(&mut flow.partial);
    feed(core, flow, &waited, tools)
}

fn bytes(
    core: &mut Core,
    flow: &mut Flow,
    bytes: &[u8],
    tools: &mut Tools<'_>,
) -> Result<(), Ending> {
    let mut bytes = bytes;
    let header;
    if flow.phase == Phase::Proxy {
        flow.partial.extend(bytes);
        let Some(size) = proxied(core, flow, tools)? else { return Ok(()) };
        flow.phase = Phase::Sniff;
        header = std::mem::take(&mut flow.partial);
        bytes = &header[size..];
    }
    let Some(first) = bytes.first() else { return Ok(()) };
    if flow.phase == Phase::Sniff {
        sniff(core, flow, *first, tools)?;
    }
    if flow.stream.is_secure() {
        decrypt(core, flow, bytes, tools)
    } else {
        feed(core, flow, bytes, tools)
    }
}

/// The load balancer's header; its size once it is whole.
fn proxied(
    core: &mut Core,
    flow: &mut Flow,
    tools: &mut Tools<'_>,
) -> Result<Option<usize>, Ending> {
    let (size, remote) = match proxy::read(&flow.partial) {
        Header::Partial { .. } => return Ok(None),
        Header::Malformed => return Err(Ending::BadProxy),
        Header::Own { size } => (size, core.client.remote),
        Header::Client { size, remote, local } => {
            (core.client.remote, core.client.local) = (remote, local);
            (size, remote)
        }
    };
    let source = doors::source(remote.ip());
    tools.census.enter_source(source)?;
    flow.source = Some(source);
    Ok(Some(size))
}

/// Tells TLS from STUN.
fn sniff(core: &mut Core, flow: &mut Flow, first: u8, tools: &mut Tools<'_>) -> Result<(), Ending> {
    let secure = first == TLS_HANDSHAKE;
    if !(if secure { flow.takes.tls } else { flow.takes.plain }) {
        return Err(Ending::NotStun);
    }
    let transport = if secure { Transport::Tls } else { Transport::Tcp };
    if secure {
        // listeners for TLS are not bound without an identity
        let config = tools.identity.ok_or(Ending::Tls)?.tls();
        flow.stream.secure(config).map_err(|_| Ending::Tls)?;
        flow.phase = Phase::Handshake;
    } else {
        flow.phase = Phase::Open;
        core.opened = Some(tools.now);
    }
    core.client.transport = transport;
    tools.counters.begun[transport as usize].add(1);
    Ok(())
}

fn decrypt(
    core: &mut Core,
    flow: &mut Flow,
    bytes: &[u8],
    tools: &mut Tools<'_>,
) -> Result<(), Ending> {
    let mut plain = std::mem::take(tools.plain);
    plain.clear();
    let decrypted = flow.stream.decrypt(bytes, &mut plain);
    flow.dirty = true;
    let done = match decrypted {
        Err(()) => Err(Ending::Tls),
        Ok(state) => {
            if state.open && flow.phase == Phase::Handshake {
                flow.phase = Phase::Open;
                core.opened = Some(tools.now);
                count_handshake(tools.counters, Transport::Tls, true);
            }
            let fed = feed(core, flow, &plain, tools);
            if state.ended { fed.and(Err(Ending::Client)) } else { fed }
        }
    };
    *tools.plain = plain;
    done
}

/// Cuts plaintext into messages. What is no whole message yet, or has to wait, is kept.
pub(crate) fn feed(
    core: &mut Core,
    flow: &mut Flow,
    bytes: &[u8],
    tools: &mut Tools<'_>,
) -> Result<(), Ending> {
    let (mut bytes, mut progress) = (bytes, false);
    // the rest of the message that has begun, and no more, so that it lies in one piece
    while !flow.partial.is_empty() && !bytes.is_empty() && !flow.is_paused() {
        match cut(&flow.partial, core.heard.is_some()) {
            Cut::Partial { size } => {
                let more = (size - flow.partial.len()).min(bytes.len());
                flow.partial.extend(&bytes[..more]);
                bytes = &bytes[more..];
            }
            Cut::Refused(ending) => return Err(ending),
            _ => {}
        }
        let partial = std::mem::take(&mut flow.partial);
        let used = messages(core, flow, &partial, tools);
        flow.partial = partial;
        let used = used?;
        flow.partial.drain(..used);
        progress |= used > 0;
    }
    let used = if flow.is_paused() { 0 } else { messages(core, flow, bytes, tools)? };
    flow.partial.extend(&bytes[used..]);
    if flow.partial.is_empty() && flow.partial.capacity() > PARTIAL_KEPT {
        flow.partial = Vec::new();
    }
    let since = match flow.partial_since {
        Some(since) if !progress && used == 0 => since,
        _ => tools.now,
    };
    flow.partial_since = (!flow.partial.is_empty()).then_some(since);
    debug_assert!(flow.is_paused() || flow.partial.len() < FRAME_MAX);
    Ok(())
}

/// Deals with the whole messages at the front; how many bytes they have.
fn messages(
    core: &mut Core,
    flow: &mut Flow,
    bytes: &[u8],
    tools: &mut Tools<'_>,
) -> Result<usize, Ending> {
    let mut used = 0;
    while used < bytes.len() && !flow.is_paused() {
        let rest = &bytes[used..];
        let message = cut(rest, core.heard.is_some());
        let size = match message {
            Cut::Partial { .. } => break,
            Cut::Refused(ending) => return Err(ending),
            Cut::Stun { size } | Cut::Channel { size, .. } => size,
        };
        match core.take(message, &rest[..size], tools.desk, tools.relay, tools.now) {
            Taken::Done => {}
            Taken::Full => {
                flow.stalled = true;
                break;
            }
            Taken::Hold => flow.held = true,
        }
        tools.counters.frames_in.add(1);
        used += size;
    }
    Ok(used)
}
