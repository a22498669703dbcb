//! A socket on one queue of one interface.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::error::Error;
use super::frame::Frame;
use super::mapping::{Area, Entry, Mapping, Offsets};
use super::ring::{Consumer, Producer};
use super::rings::{Counts, HEADERS, HEADERS_AND_DATA, Rings};
use super::sys;
use super::umem::{HEADROOM, Member, Tag, Umem};

/// Whether the device reads and writes the frames where they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Copying {
    /// It does, or there is no queue (XDP_ZEROCOPY).
    Zero,
    /// The kernel copies each frame (XDP_COPY): every driver can.
    Copy,
    /// The kernel's choice: without copies where the driver can.
    #[default]
    Any,
}

impl fmt::Display for Copying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Copying::Zero => "AF_XDP without copies",
            Copying::Copy => "AF_XDP with copies",
            Copying::Any => "AF_XDP",
        })
    }
}

/// Polling the device from the worker instead of by interrupts (SO_PREFER_BUSY_POLL). It works for
/// a device whose `napi_defer_hard_irqs` and `gro_flush_timeout` are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// Longest poll without a packet, in microseconds (SO_BUSY_POLL), 1 or more.
    pub micros: u32,
    /// Most packets of one poll (SO_BUSY_POLL_BUDGET).
    pub budget: u16,
}

/// How a queue is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether frames may be copied. A queue that shares its memory with one that is open already
    /// has that one's way, whatever is said here.
    pub copying: Copying,
    /// Entries of each ring: a power of two from 64 to 32,768. It is also the most frames that the
    /// kernel has to receive into.
    pub entries: u32,
    /// Preferred busy polling.
    pub busy_poll: Option<BusyPoll>,
}

impl Default for Options {
    fn default() -> Self {
        Options { copying: Copying::Any, entries: 2048, busy_poll: None }
    }
}

/// What a queue got of what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// No frame is copied (XDP_OPTIONS_ZEROCOPY).
    pub zero_copy: bool,
    /// It shares the memory with a queue that was open already.
    pub shared: bool,
    /// Most frames that one system call sends in copy mode.
    pub tx_budget: u32,
    /// The device is polled by this queue's user.
    pub busy_poll: bool,
}

/// The kernel's own counts of a socket (XDP_STATISTICS), in frames. They start with the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Dropped for another reason than a full rx ring: no frame to receive into, or too long for it.
    pub rx_dropped: u64,
    /// Bad addresses in the fill ring.
    pub rx_invalid: u64,
    /// Bad entries in the tx ring.
    pub tx_invalid: u64,
    /// Dropped because the rx ring was full.
    pub rx_ring_full: u64,
    /// Times that there was no frame to receive into.
    pub fill_ring_empty: u64,
    /// Times that the kernel found nothing to send.
    pub tx_ring_empty: u64,
}

/// A socket on one receive and transmit queue, with its four rings.
///
/// Dropping it closes the socket and takes it out of every XSKMAP; what frames the kernel had come
/// back by [`Umem::settle`].
pub struct Queue {
    // The rings' mappings go before the socket; the frames' memory stays until both are gone.
    rings: Rings,
    socket: Arc<Member>,
    _memory: Arc<Mapping>,
    interface: String,
    number: u32,
    mode: Mode,
    /// Most system calls of one flush.
    calls_max: u32,
}

/// The default budget of one sendto(2) in copy mode (TX_BATCH_SIZE in net/xdp/xsk.c).
const TX_BATCH: u32 = 32;

impl Queue {
    /// Opens queue `number` of `interface`, in the calling thread's network namespace, on the
    /// memory `umem`, and gives the kernel frames to receive into. Nothing comes before the socket
    /// is in the XSKMAP of a program on that interface ([`as_fd`](AsFd::as_fd)).
    ///
    /// A further queue of the same memory shares the kernel's registration of it; all of them copy,
    /// or none does.
    ///
    /// # Errors
    /// Named by [`Error`]. Nothing is left behind, and `umem` has all its frames.
    pub fn open(
        interface: &str,
        number: u32,
        umem: &mut Umem,
        options: &Options,
    ) -> Result<Queue, Error> {
        let opening = Opening { interface, number, options };
        // asking takes a descriptor, so not every failure means that there is none
        let index = sys::index(interface)
            .map_err(|error| opening.refused("looking for it", error, umem))?;
        for owner in umem.members() {
            let Some(fd) = &owner.socket else { continue };
            match opening.bind(index, umem, Some(fd.as_fd())) {
                // Its own interface is gone: it is nobody to share with.
                Err((_, error)) if error.raw_os_error() == Some(libc::EBADF) => {}
                opened => {
                    return opened.map_err(|(doing, error)| opening.refused(doing, error, umem));
                }
            }
        }
        opening
            .bind(index, umem, None)
            .map_err(|(doing, error)| opening.refused(doing, error, umem))
    }

    /// The interface's name when it was opened.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The queue's number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What it got.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What it did and met.
    pub fn counts(&self) -> Counts {
        self.rings.counts
    }

    /// True when [`receive`](Self::receive) will find something.
    pub fn is_ready(&mut self) -> bool {
        self.rings.rx.ready(1) > 0
    }

    /// Moves received frames to the end of `into`: at most `max`, and no more than its capacity has
    /// room for. How many. Takes no system call.
    ///
    /// # Panics
    /// `umem` is not this queue's memory; likewise below.
    pub fn receive(&mut self, umem: &mut Umem, into: &mut Vec<Frame>, max: usize) -> usize {
        self.rings.receive(umem, into, max)
    }

    /// Puts a frame on the tx ring. The kernel hears of it by [`flush`](Self::flush).
    ///
    /// # Errors
    /// The ring is full, or the frame shorter than an Ethernet header: it is given back.
    pub fn transmit(&mut self, umem: &mut Umem, frame: Frame) -> Result<(), Frame> {
        self.rings.transmit(umem, frame)
    }

    /// Gives the kernel free frames to receive into, as many as it may have. How many.
    pub fn refill(&mut self, umem: &mut Umem) -> usize {
        self.rings.refill(umem)
    }

    /// Takes the frames back that the kernel has sent. How many.
    pub fn reclaim(&mut self, umem: &mut Umem) -> usize {
        self.rings.reclaim(umem)
    }

    /// Frames on the tx ring that the kernel has not taken yet.
    pub fn waiting(&mut self) -> usize {
        self.rings.tx.waiting() as usize
    }

    /// True while the kernel has frames of this queue to send, or has not said yet that it has.
    pub fn is_sending(&self) -> bool {
        let Counts { transmitted, completed, .. } = self.rings.counts;
        transmitted > completed
    }

    /// Shows the kernel what was transmitted, and wakes it for sending and for receiving where it
    /// asks for that. What it cannot send now stays in the ring for the next call.
    ///
    /// # Errors
    /// [`Error::Down`]: keep the queue, its frames wait. [`Error::Gone`], [`Error::Disordered`] and
    /// all others: drop it.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.rings.publish();
        self.wake_for_sending()?;
        if self.mode.busy_poll || self.rings.fill.asks() {
            self.rings.counts.rx_wakeups += 1;
            let woken = sys::wake_rx(self.as_fd());
            self.judge("waking it for receiving", woken)?;
        }
        if self.rings.is_sound() {
            return Ok(());
        }
        Err(Error::Disordered { interface: self.interface.clone(), queue: self.number })
    }

    /// Asks the kernel whether the queue still has its interface, which an idle queue hears of in no
    /// other way. One system call.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn check(&mut self) -> Result<(), Error> {
        let woken = sys::wake_rx(self.as_fd());
        self.judge("asking for its state", woken).map(drop)
    }

    /// The kernel's counts.
    ///
    /// # Errors
    /// None that is known of.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let found = sys::statistics(self.as_fd())?;
        Ok(Statistics {
            rx_dropped: found.rx_dropped,
            rx_invalid: found.rx_invalid_descs,
            tx_invalid: found.tx_invalid_descs,
            rx_ring_full: found.rx_ring_full,
            fill_ring_empty: found.rx_fill_ring_empty_descs,
            tx_ring_empty: found.tx_ring_empty_descs,
        })
    }

    /// In copy mode a call sends a budget's worth; where it stopped short of the end, the next goes
    /// on, for as long as each gets further.
    fn wake_for_sending(&mut self) -> Result<(), Error> {
        let mut left = self.rings.tx.waiting();
        for _ in 0..self.calls_max {
            if left == 0 || !(self.mode.busy_poll || self.rings.tx.asks()) {
                break;
            }
            self.rings.counts.tx_wakeups += 1;
            let woken = sys::wake_tx(self.as_fd());
            self.judge("waking it for sending", woken)?;
            let now = self.rings.tx.waiting();
            if self.mode.zero_copy || now == left {
                break;
            }
            left = now;
        }
        Ok(())
    }

    /// "Later" is no error: the kernel is short of memory or room, and what it has not taken waits.
    fn judge(&mut self, doing: &'static str, woken: io::Result<()>) -> Result<(), Error> {
        let Err(error) = woken else { return Ok(()) };
        let (interface, queue) = (self.interface.clone(), self.number);
        match error.raw_os_error().map_or(Trouble::Other, trouble) {
            Trouble::Later => {
                self.rings.counts.later += 1;
                Ok(())
            }
            Trouble::Down => Err(Error::Down { interface }),
            Trouble::Gone => Err(Error::Gone { interface, queue }),
            Trouble::Other => Err(Error::Os { doing, interface, queue, error }),
        }
    }
}

/// What the kernel's answer to a wakeup means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Later,
    Down,
    Gone,
    Other,
}

pub(super) fn trouble(errno: i32) -> Trouble {
    match errno {
        libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR => Trouble::Later,
        libc::ENETDOWN => Trouble::Down,
        libc::ENXIO | libc::ENODEV => Trouble::Gone,
        _ => Trouble::Other,
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.socket.as_ref().expect("a queue that was opened has a socket").as_fd()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({} queue {}, {:?})", self.interface, self.number, self.mode)
    }
}

/// What was being done, and the kernel's refusal.
type Refusal = (&'static str, io::Error);

struct Opening<'a> {
    interface: &'a str,
    number: u32,
    options: &'a Options,
}

impl Opening<'_> {
    fn bind(
        &self,
        index: u32,
        umem: &mut Umem,
        shared: Option<BorrowedFd<'_>>,
    ) -> Result<Queue, Refusal> {
        let socket = sys::socket().map_err(|error| ("opening an AF_XDP socket", error))?;
        let tx_budget = self.prepare(socket.as_fd(), umem, shared.is_none())?;
        let socket = Arc::new(Member { socket: Some(socket) });
        let fd = socket.socket.as_ref().expect("just put there").as_fd();
        let memory = Arc::clone(umem.mapping());
        let Some(tag) = umem.seat(&socket) else {
            return Err(("finding a place in its memory", io::ErrorKind::QuotaExceeded.into()));
        };
        let bound = self.rings(fd, umem, tag).and_then(|mut rings| {
            // Before bind(2): a driver without copies takes its first frames there.
            rings.refill(umem);
            let zero_copy = self.finish(fd, index, shared)?;
            rings.ahead = if zero_copy { HEADERS } else { HEADERS_AND_DATA };
            Ok((rings, zero_copy))
        });
        let (rings, zero_copy) = match bound {
            Ok(bound) => bound,
            Err(refusal) => {
                umem.vacate(tag);
                return Err(refusal);
            }
        };
        let mode = Mode {
            zero_copy,
            shared: shared.is_some(),
            tx_budget,
            busy_poll: self.options.busy_poll.is_some(),
        };
        let calls_max = if zero_copy { 1 } else { self.options.entries.div_ceil(TX_BATCH) };
        let (interface, number) = (self.interface.to_owned(), self.number);
        Ok(Queue { rings, socket, _memory: memory, interface, number, mode, calls_max })
    }

    /// The socket's memory and the sizes of its rings. Its budget for sending.
    fn prepare(&self, fd: BorrowedFd<'_>, umem: &Umem, register: bool) -> Result<u32, Refusal> {
        if register {
            let frame = umem.frame_size().bytes() as u32;
            sys::register(fd, umem.mapping(), frame, HEADROOM as u32)
                .map_err(|error| (REGISTERING, error))?;
        }
        let entries = self.options.entries;
        for ring in [
            libc::XDP_UMEM_FILL_RING,
            libc::XDP_UMEM_COMPLETION_RING,
            libc::XDP_RX_RING,
            libc::XDP_TX_RING,
        ] {
            sys::set_number(fd, ring, entries).map_err(|error| ("making its rings", error))?;
        }
        // Kernels before 6.18 have no such option, and the default.
        let raised = sys::set_number(fd, sys::MAX_TX_SKB_BUDGET, entries).is_ok();
        self.busy_poll(fd).map_err(|error| ("asking for busy polling", error))?;
        Ok(if raised { entries } else { TX_BATCH })
    }

    fn busy_poll(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let Some(BusyPoll { micros, budget }) = self.options.busy_poll else { return Ok(()) };
        sys::set_socket_number(fd, libc::SO_PREFER_BUSY_POLL, 1)?;
        sys::set_socket_number(fd, libc::SO_BUSY_POLL, micros.clamp(1, 1_000_000) as i32)?;
        sys::set_socket_number(fd, libc::SO_BUSY_POLL_BUDGET, i32::from(budget))
    }

    fn rings(&self, fd: BorrowedFd<'_>, umem: &Umem, tag: Tag) -> Result<Rings, Refusal> {
        self.map(fd, umem, tag).map_err(|error| ("mapping its rings", error))
    }

    fn map(&self, fd: BorrowedFd<'_>, umem: &Umem, tag: Tag) -> io::Result<Rings> {
        let layout = sys::layout(fd)?;
        let entries = self.options.entries;
        let fill = area(fd, libc::XDP_UMEM_PGOFF_FILL_RING as i64, layout.fill, entries)?;
        let place = libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64;
        let completion = area(fd, place, layout.completion, entries)?;
        let rx = area(fd, libc::XDP_PGOFF_RX_RING, layout.rx, entries)?;
        let tx = area(fd, libc::XDP_PGOFF_TX_RING, layout.tx, entries)?;
        Ok(Rings {
            fill: Producer::new(fill),
            completion: Consumer::new(completion),
            rx: Consumer::new(rx),
            tx: Producer::new(tx),
            tag,
            umem: umem.id(),
            filled: 0,
            filled_max: entries,
            ahead: HEADERS,
            counts: Counts::default(),
        })
    }

    /// True when it is without copies.
    fn finish(
        &self,
        fd: BorrowedFd<'_>,
        index: u32,
        shared: Option<BorrowedFd<'_>>,
    ) -> Result<bool, Refusal> {
        let flags = match (shared.is_some(), self.options.copying) {
            // The kernel takes copying and wakeups from the first.
            (true, _) => libc::XDP_SHARED_UMEM,
            (false, Copying::Zero) => libc::XDP_ZEROCOPY | libc::XDP_USE_NEED_WAKEUP,
            (false, Copying::Copy) => libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP,
            (false, Copying::Any) => libc::XDP_USE_NEED_WAKEUP,
        };
        sys::bind(fd, index, self.number, flags, shared).map_err(|error| (BINDING, error))?;
        sys::is_zero_copy(fd).map_err(|error| ("asking for its mode", error))
    }

    /// The kernel's number with what it means here.
    fn refused(&self, doing: &'static str, error: io::Error, umem: &Umem) -> Error {
        let (interface, queue) = (self.interface.to_owned(), self.number);
        let os = |error| Error::Os { doing, interface: interface.clone(), queue, error };
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Error::NoPrivilege,
            Some(libc::EAFNOSUPPORT) => Error::NoSupport,
            Some(libc::ENOBUFS) if doing == REGISTERING => {
                Error::MemoryLock { bytes: umem.mapping().len() }
            }
            Some(libc::EBUSY) => Error::InUse { interface, queue },
            Some(libc::ENODEV | libc::ENXIO) => Error::NoInterface { interface },
            Some(libc::ENETDOWN) => Error::Down { interface },
            Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT) if doing == BINDING => {
                Error::Unsupported { interface, queue, copying: self.options.copying }
            }
            Some(libc::EINVAL) if doing == BINDING => match super::queues(&interface) {
                Ok(queues) if queue >= queues => Error::NoQueue { interface, queue, queues },
                _ => os(error),
            },
            _ => os(error),
        }
    }
}

const REGISTERING: &str = "registering its memory";
const BINDING: &str = "binding to it";

fn area<T: Entry>(
    fd: BorrowedFd<'_>,
    place: i64,
    offsets: Offsets,
    entries: u32,
) -> io::Result<Area<T>> {
    if !entries.is_power_of_two() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mapping = Mapping::shared(fd, place, Area::<T>::len(offsets, entries))?;
    Ok(Area::new(Arc::new(mapping), offsets, entries))
}
