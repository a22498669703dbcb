//! Talking to a sink through the relay.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use turn::message::{ChannelData, Message, is_channel_data};

use super::Lab;
use super::measure::Load;
use super::setup::sink_port;
use crate::control::Engine;
use crate::latency;
use crate::link::Link;
use crate::options::PeerSide;
use crate::plan::Direction;
use crate::sink::{Answer, Command, Results, read, write};
use crate::sys::monotonic;
use crate::tracker::Arrivals;
use crate::traffic::{Egress, FlowArrivals, Received, Sent, Slots};

const MILLISECOND: u64 = 1_000_000;
/// How often a command is said, and how long an answer is waited for.
const TRIES: usize = 8;
const WAIT: u64 = 250 * MILLISECOND;
/// Exchanges by which the clocks are compared.
const PINGS: usize = 8;

/// What a sink said about one measurement, in the words of local threads.
pub(super) struct FromSink {
    pub(super) received: Received,
    pub(super) sent: Option<(Vec<Egress>, Sent)>,
    pub(super) dropped_here: u64,
}

/// How the clocks compare.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// The sink's less ours, in nanoseconds.
    offset: i64,
    /// The offset is wrong by at most this.
    pub(super) error: u64,
}

impl Lab {
    /// Whether the peers are a sink's.
    pub(super) fn has_sink(&self) -> bool {
        matches!(self.field.options.peer, PeerSide::Sink(_))
    }

    /// Announces a measurement: the flows that the sink is to send.
    pub(super) fn announce(&mut self, tag: u8) -> Result<Clocks> {
        let mut best: Option<Clocks> = None;
        for _ in 0..PINGS {
            let hello = Command::Hello { tag, time: monotonic() };
            let Answer::Ready { time, sink_time } = self.ask((0, 0), &hello)? else {
                bail!("the sink does not understand us: is it of another version?");
            };
            let now = monotonic();
            let (middle, error) = (time + (now - time) / 2, (now - time) / 2);
            let offset = sink_time.cast_signed() - middle.cast_signed();
            if best.is_none_or(|best| error < best.error) {
                best = Some(Clocks { offset, error });
            }
        }
        for number in 0..self.field.flows.len() {
            let flow = self.field.flows[number];
            if flow.direction == Direction::ToClient {
                self.add_flow(tag, number as u32, (flow.allocation, flow.channel))?;
            }
        }
        best.context("no answer from the sink")
    }

    fn add_flow(&mut self, tag: u8, flow: u32, way: (usize, usize)) -> Result<()> {
        let mut cookie = 0;
        loop {
            match self.ask(way, &Command::Flow { tag, flow, cookie })? {
                Answer::Cookie { cookie: said, .. } if cookie != said => {
                    cookie = said;
                }
                Answer::Added { .. } => return Ok(()),
                // the cookie again, for an earlier try
                Answer::Cookie { .. } => {}
                other => bail!("the sink says {other:?}"),
            }
        }
    }

    /// Tells the sink when and how to begin.
    pub(super) fn go(&mut self, tag: u8, load: &Load, slots: Slots, clocks: Clocks) -> Result<()> {
        let of_sink = self.to_client_share();
        let go = Command::Go {
            tag,
            offset: clocks.offset,
            start: slots.start,
            len: load.duration.as_nanos() as u64,
            slots: (slots.len, slots.count),
            rate: match (of_sink > 0.0, load.rate) {
                (true, rate) => rate.map(|rate| rate * of_sink),
                (false, _) => Some(0.0),
            },
            mix: self.field.options.mix.to_string(),
        };
        match self.ask((0, 0), &go)? {
            Answer::Going => Ok(()),
            Answer::No { why } => bail!("the sink refuses: {why}"),
            other => bail!("the sink says {other:?}"),
        }
    }

    fn to_client_share(&self) -> f64 {
        let flows = &self.field.flows;
        let theirs = flows.iter().filter(|flow| flow.direction == Direction::ToClient).count();
        theirs as f64 / flows.len().max(1) as f64
    }

    /// What the sink has counted.
    pub(super) fn collect(&mut self, tag: u8) -> Result<FromSink> {
        let Answer::Made { len } = self.ask((0, 0), &Command::Report { tag })? else {
            bail!("the sink has no results");
        };
        let mut text = String::with_capacity(len);
        while text.len() < len {
            match self.ask((0, 0), &Command::Fetch { tag, at: text.len() })? {
                Answer::Part { text: part, .. } if !part.is_empty() => text.push_str(&part),
                other => bail!("the sink says {other:?}"),
            }
        }
        let results: Results = serde_json::from_str(&text).context("the sink's results")?;
        self.understand(results)
    }

    fn understand(&self, results: Results) -> Result<FromSink> {
        let mut received = Received::new(self.field.flows.len(), results.by_slot.len());
        for (flow, received_of_flow, reordered, duplicated, corrupted) in results.flows {
            let arrivals =
                Arrivals { received: received_of_flow, reordered, duplicated, corrupted };
            if let Some(place) = received.flows.get_mut(flow as usize) {
                *place = Some(Box::new(FlowArrivals::of(arrivals)));
            }
        }
        received.unreadable[Direction::ToPeer as usize] = results.unreadable;
        received.latency[Direction::ToPeer as usize] = latency::decode(&results.latency)?;
        received.by_slot = results.by_slot;
        let sent = results.sent.map(|sent| -> Result<_> {
            let (flows, by_flow): (Vec<u32>, Vec<u32>) = sent.by_flow.into_iter().unzip();
            let egress = flows.iter().map(|flow| Egress::elsewhere(*flow)).collect();
            Ok((
                egress,
                Sent {
                    offered: sent.offered,
                    by_flow,
                    by_slot: sent.by_slot,
                    blocked: 0,
                    refused: sent.refused.0,
                    refusal: sent.refused.1,
                    lateness: latency::decode(&sent.lateness)?,
                    ended: sent.ended,
                },
            ))
        });
        let dropped_here = results.dropped_here;
        Ok(FromSink { received, sent: sent.transpose()?, dropped_here })
    }

    /// A command to the sink by this allocation and channel, and its answer.
    fn ask(&mut self, way: (usize, usize), command: &Command) -> Result<Answer> {
        let payload = write(command);
        let (allocation, _) = way;
        let framing = self.field.command_framing(way)?;
        let mut bytes = vec![0; payload.len() + crate::framing::FRAMING_MAX];
        let len = framing.wrap(payload.len(), &mut bytes, |out| out.copy_from_slice(&payload));
        let link = self.field.links[allocation].clone();
        for _ in 0..TRIES {
            link.send_control(&bytes[..len]).context("sending to the sink")?;
            let until = monotonic() + WAIT;
            while monotonic() < until {
                match hear(&link, allocation, &mut self.engine)? {
                    Some(answer) if answer.is_to(command) => return Ok(answer),
                    Some(_) => continue,
                    None => {}
                }
                crate::sys::wait_readable(&*link, 5);
            }
        }
        let PeerSide::Sink(sinks) = &self.field.options.peer else { bail!("there is no sink") };
        bail!("no turnwire-load sink answers at {} through the relay", sink_port(sinks, way.1))
    }
}

/// The next answer on this link, if there is one; what is for the engine goes there.
fn hear(link: &Link, session: usize, engine: &mut Engine) -> Result<Option<Answer>> {
    let mut buffer = [0; 2_048];
    loop {
        let len = match link.receive_control(&mut buffer) {
            Ok(Some(len)) => len,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let bytes = &buffer[..len];
        let data = match is_channel_data(bytes) {
            true => ChannelData::parse(bytes).map(|channel| channel.data),
            false => Message::parse(bytes).ok().and_then(|message| message.data()),
        };
        match data.map(read::<Answer>) {
            Some(Some(answer)) => return Ok(Some(answer)),
            // late data of a measurement before
            Some(None) => {}
            None => engine.input(session, bytes, monotonic()),
        }
    }
}

/// How long a sink needs to get ready, once it has been told.
pub(super) const SINK_LEAD: Duration = Duration::from_millis(300);
