//! The packet memory: frames of one size, who has which, and the list of those that are free.
//!
//! ```text
//!   | frame 0 | frame 1 | ... |        each 2048 or 4096 bytes
//!   | HEADROOM 64 | the kernel's headroom 256 | packet as received ...... |
//! ```
//!
//! The ledger has a line for each frame: free, held by a [`Frame`], with a queue to be filled, with a
//! queue to be sent, or stranded with a queue that is gone. What a ring gives must stand there as
//! that ring's, or it is not taken: no frame is in two places, whatever the other side does.

#![allow(unsafe_code, reason = "slices of memory that the kernel writes while it has the frame")]

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::error::Error;
use super::frame::Frame;
use super::mapping::Mapping;

/// Headroom of our own in front of the kernel's, in bytes, a cache line.
///
/// The largest growth of a frame: a VLAN tag (4), IPv4 to IPv6 (20), and a Data indication around the
/// data (20 of header, 24 of XOR-PEER-ADDRESS for IPv6, 4 of DATA's head): 72 bytes; channel data
/// takes 28. [`KERNEL_HEADROOM`] alone has room for those, and what this adds is there also where a
/// driver or a program has used up the kernel's.
pub const HEADROOM: usize = 64;

/// What the kernel leaves free in front of every received packet (XDP_PACKET_HEADROOM), in bytes.
pub const KERNEL_HEADROOM: usize = 256;

/// Where a received packet starts in its frame, and a fresh one.
pub const START: usize = HEADROOM + KERNEL_HEADROOM;

/// Most frames of one memory: 256 MiB of them at 4096 bytes.
pub const FRAMES_MAX: u32 = 1 << 16;

/// How long frames stay set aside that a queue had when it was dropped: the kernel and the device
/// let go of them a little later, by a worker of the kernel, without a word.
pub const STRANDED: Duration = Duration::from_secs(1);

/// Most queues of one memory, those included that are dropped and not settled yet.
pub(super) const QUEUES_MAX: usize = 64;

/// Bytes of a frame: a power of two, and at most a page (what the kernel takes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameSize {
    /// 2048 bytes: packets of up to 1728.
    Bytes2048,
    /// 4096 bytes: packets of up to 3776. Drivers that count receive buffers in whole KiB (igb)
    /// need it to receive a packet of 1,514 bytes in one piece.
    Bytes4096,
}

impl FrameSize {
    /// In bytes.
    pub const fn bytes(self) -> usize {
        match self {
            FrameSize::Bytes2048 => 2048,
            FrameSize::Bytes4096 => 4096,
        }
    }

    /// The longest packet that can be received, in bytes.
    pub const fn packet_max(self) -> usize {
        self.bytes() - START
    }
}

/// A queue's number within its memory.
pub(super) type Tag = u8;

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    Held,
    /// Given to a queue to receive into: in its fill ring, the device, or its rx ring.
    Filled(Tag),
    /// Given to a queue to send: in its tx ring, the device, or its completion ring.
    Sent(Tag),
    /// Was with a queue that is gone.
    Stranded(Tag),
}

/// How many frames are where. The sum is the memory's number of frames, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// On the free list.
    pub free: u32,
    /// Held by a [`Frame`] somewhere, or lost with one that was dropped.
    pub held: u32,
    /// With a queue, to receive into.
    pub filled: u32,
    /// With a queue, to be sent.
    pub sent: u32,
    /// Set aside after the loss of a queue, for [`STRANDED`].
    pub stranded: u32,
}

impl Census {
    /// Of all places.
    pub fn total(&self) -> u32 {
        self.free + self.held + self.filled + self.sent + self.stranded
    }
}

/// A queue that uses this memory, or did.
enum Seat {
    Empty,
    /// With its socket, for as long as that lives. A simulated one has none.
    Taken(Weak<Member>),
    /// Dropped at a time that is known when somebody first asks.
    Gone(Duration),
}

/// What a queue and its seat share.
pub(super) struct Member {
    pub(super) socket: Option<OwnedFd>,
}

/// The packet memory of one thread.
pub struct Umem {
    /// Tells one memory's frames from another's.
    id: u32,
    mapping: Arc<Mapping>,
    frame_size: FrameSize,
    places: Box<[Place]>,
    free: Vec<u32>,
    seats: Vec<Seat>,
}

/// Numbers of memories, so that no frame is taken for another memory's.
static IDS: AtomicU32 = AtomicU32::new(0);

impl Umem {
    /// Memory for `frames` frames (1 to [`FRAMES_MAX`]), all free.
    ///
    /// Enough for one queue: as many as its fill and tx rings hold, and a batch. Nothing is locked
    /// or registered before the first [`Queue`](super::Queue) is opened.
    ///
    /// # Errors
    /// No memory.
    pub fn new(frames: u32, frame_size: FrameSize) -> Result<Umem, Error> {
        let frames = frames.clamp(1, FRAMES_MAX);
        let bytes = frames as usize * frame_size.bytes();
        let mapping = Mapping::fresh(bytes).map_err(|error| Error::Memory { bytes, error })?;
        Ok(Umem {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            mapping: Arc::new(mapping),
            frame_size,
            places: vec![Place::Free; frames as usize].into_boxed_slice(),
            free: (0..frames).rev().collect(),
            seats: Vec::with_capacity(QUEUES_MAX),
        })
    }

    /// Frames of this memory.
    pub fn frames(&self) -> u32 {
        self.places.len() as u32
    }

    /// Bytes of each.
    pub fn frame_size(&self) -> FrameSize {
        self.frame_size
    }

    /// Frames on the free list.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// A free frame for a packet of our own, empty, at [`START`].
    pub fn take(&mut self) -> Option<Frame> {
        let number = self.free.pop()?;
        self.places[number as usize] = Place::Held;
        Some(self.frame(number, START as u32, 0))
    }

    /// Takes a frame back that goes nowhere.
    ///
    /// # Panics
    /// The frame is another memory's.
    pub fn give(&mut self, frame: Frame) {
        self.check(&frame);
        self.places[frame.number as usize] = Place::Free;
        self.free.push(frame.number);
    }

    /// The packet in `frame`.
    ///
    /// # Panics
    /// The frame is another memory's.
    #[inline]
    pub fn bytes(&self, frame: &Frame) -> &[u8] {
        let at = self.at(frame);
        // SAFETY: a `Frame` is the right to its bytes: the kernel does not have it, and writing
        // takes `&mut` of the one `Frame` there is.
        unsafe { self.mapping.bytes(at, frame.size()) }
    }

    /// The packet in `frame`, to write.
    ///
    /// # Panics
    /// The frame is another memory's.
    #[inline]
    pub fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        let at = self.at(frame);
        // SAFETY: as above, and both are borrowed for as long as the slice lives.
        unsafe { self.mapping.bytes_mut(at, frame.size()) }
    }

    /// Who has how many. A walk over the ledger: for tests and for a metric now and then.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for place in &self.places {
            *match place {
                Place::Free => &mut census.free,
                Place::Held => &mut census.held,
                Place::Filled(_) => &mut census.filled,
                Place::Sent(_) => &mut census.sent,
                Place::Stranded(_) => &mut census.stranded,
            } += 1;
        }
        census
    }

    /// Sets the frames of queues aside that were dropped since the last call, and takes those back
    /// that were for [`STRANDED`]. To be called about once a second, with any clock that goes
    /// forward, for as long as queues come and go; how many came back.
    pub fn settle(&mut self, now: Duration) -> usize {
        let before = self.free.len();
        for at in 0..self.seats.len() {
            let tag = at as Tag;
            match &self.seats[at] {
                Seat::Taken(member) if member.strong_count() == 0 => {
                    let with = |place| [Place::Filled(tag), Place::Sent(tag)].contains(&place);
                    let places = self.places.iter_mut().filter(|place| with(**place));
                    places.for_each(|place| *place = Place::Stranded(tag));
                    self.seats[at] = Seat::Gone(now);
                }
                Seat::Gone(since) if now.saturating_sub(*since) >= STRANDED => {
                    for (number, place) in self.places.iter_mut().enumerate() {
                        if *place == Place::Stranded(tag) {
                            *place = Place::Free;
                            self.free.push(number as u32);
                        }
                    }
                    self.seats[at] = Seat::Empty;
                }
                _ => {}
            }
        }
        self.free.len() - before
    }

    /// A seat for a new queue; `None` when there are [`QUEUES_MAX`].
    pub(super) fn seat(&mut self, member: &Arc<Member>) -> Option<Tag> {
        let taken = Seat::Taken(Arc::downgrade(member));
        if let Some(at) = self.seats.iter().position(|seat| matches!(seat, Seat::Empty)) {
            self.seats[at] = taken;
            return Some(at as Tag);
        }
        if self.seats.len() == QUEUES_MAX {
            return None;
        }
        self.seats.push(taken);
        Some((self.seats.len() - 1) as Tag)
    }

    /// Empties the seat of a queue that never came to be: the kernel has seen none of its frames.
    pub(super) fn vacate(&mut self, tag: Tag) {
        for (number, place) in self.places.iter_mut().enumerate() {
            if *place == Place::Filled(tag) {
                *place = Place::Free;
                self.free.push(number as u32);
            }
        }
        self.seats[usize::from(tag)] = Seat::Empty;
    }

    /// Other queues of this memory.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        let taken = self.seats.iter().filter_map(|seat| match seat {
            Seat::Taken(member) => member.upgrade(),
            _ => None,
        });
        taken.collect()
    }

    /// For the simulation, which knows where all the others are.
    pub(super) fn free_numbers(&self) -> &[u32] {
        &self.free
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// A frame that is free, as an address for a fill ring; it is `tag`'s then.
    #[inline]
    pub(super) fn fill(&mut self, tag: Tag) -> Option<u64> {
        let number = self.free.pop()?;
        self.places[number as usize] = Place::Filled(tag);
        Some(self.base(number) as u64)
    }

    /// Takes back what [`fill`](Self::fill) gave and no ring took.
    pub(super) fn unfill(&mut self, address: u64) {
        let number = (address / self.frame_size.bytes() as u64) as u32;
        self.places[number as usize] = Place::Free;
        self.free.push(number);
    }

    /// What the rx ring of `tag` says, as a frame. `None` for what is not there to be said.
    #[inline]
    pub(super) fn received(&mut self, tag: Tag, address: u64, size: u32) -> Option<Frame> {
        let (number, start) = self.split(address);
        let place = self.places.get_mut(usize::try_from(number).ok()?)?;
        let fits = start + u64::from(size) <= self.frame_size.bytes() as u64;
        if *place != Place::Filled(tag) || !fits {
            return None;
        }
        *place = Place::Held;
        Some(self.frame(number as u32, start as u32, size))
    }

    /// Has the processor fetch the first bytes of the packet in `frame`, at most `most`.
    #[inline]
    pub(super) fn prefetch(&self, frame: &Frame, most: usize) {
        self.mapping.prefetch(self.at(frame), frame.size().min(most));
    }

    /// The frame as an address for a tx ring; it is `tag`'s then.
    #[inline]
    pub(super) fn send(&mut self, tag: Tag, frame: Frame) -> (u64, u32) {
        let at = self.at(&frame);
        self.places[frame.number as usize] = Place::Sent(tag);
        (at as u64, frame.size)
    }

    /// What the completion ring of `tag` says: true when that frame is free now.
    #[inline]
    pub(super) fn completed(&mut self, tag: Tag, address: u64) -> bool {
        let (number, _) = self.split(address);
        let Ok(at) = usize::try_from(number) else { return false };
        let Some(place) = self.places.get_mut(at) else { return false };
        if *place != Place::Sent(tag) {
            return false;
        }
        *place = Place::Free;
        self.free.push(number as u32);
        true
    }

    fn split(&self, address: u64) -> (u64, u64) {
        let size = self.frame_size.bytes() as u64;
        (address / size, address % size)
    }

    fn base(&self, number: u32) -> usize {
        number as usize * self.frame_size.bytes()
    }

    fn frame(&self, number: u32, start: u32, size: u32) -> Frame {
        Frame { umem: self.id, number, start, size, room: self.frame_size.bytes() as u32 }
    }

    #[inline]
    fn check(&self, frame: &Frame) {
        assert_eq!(frame.umem, self.id, "a frame of another memory");
    }

    #[inline]
    fn at(&self, frame: &Frame) -> usize {
        self.check(frame);
        self.base(frame.number) + frame.start()
    }
}
