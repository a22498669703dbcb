//! Busy polling: a worker that would sleep asks the device's queue for datagrams for a while first
//! (Documentation/networking/napi.rst). That saves the interrupt and the wake-up, and costs the
//! core: for hosts whose workers have cores of their own.
//!
//! ```text
//!   SO_BUSY_POLL      each socket    lets its queue be polled, and names it     (CAP_NET_ADMIN)
//!   EPIOCSPARAMS      the poller     polls before it sleeps                     Linux 6.9
//!   net.core.busy_poll               the same for every poller of the host      root
//! ```

use super::{Bound, sys};
use mio::Poll;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// What became of the wish for busy polling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BusyPolling {
    /// Nobody asked for it.
    #[default]
    Off,
    /// Sockets and poller do it.
    On,
    /// The kernel (before Linux 6.9) lets no process choose it for a poller: the sockets do it, and
    /// the poller if the host's `net.core.busy_poll` is set.
    SocketsAlone,
    /// The kernel refused with this error number: EPERM without CAP_NET_ADMIN, which only older
    /// kernels ask for, ENOPROTOOPT where it was built without.
    Refused(i32),
}

impl BusyPolling {
    /// Whether sockets are to be asked for it.
    pub fn is_on(self) -> bool {
        matches!(self, Self::On | Self::SocketsAlone)
    }
}

/// Asks for busy polling of at most `time`, whole microseconds, by the poller and its listeners.
pub fn busy_poll(poll: &Poll, listeners: &[Bound], time: Duration) -> BusyPolling {
    let Some(micros) = micros(time) else { return BusyPolling::Off };
    let sockets = listeners.iter().try_for_each(|listener| listener.set_busy_poll(time));
    outcome(sockets, || sys::poll_busily(poll.as_raw_fd(), micros))
}

fn outcome(sockets: io::Result<()>, poller: impl FnOnce() -> io::Result<()>) -> BusyPolling {
    match sockets {
        Err(error) => BusyPolling::Refused(error.raw_os_error().unwrap_or(libc::EINVAL)),
        Ok(()) if poller().is_ok() => BusyPolling::On,
        Ok(()) => BusyPolling::SocketsAlone,
    }
}

/// Nothing for no time.
fn micros(time: Duration) -> Option<u32> {
    let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    (micros > 0).then_some(micros)
}

impl Bound {
    /// Lets the queue of the device that its datagrams come by be polled for at most `time`.
    ///
    /// # Errors
    /// The kernel refuses: see [`BusyPolling::Refused`].
    pub fn set_busy_poll(&self, time: Duration) -> io::Result<()> {
        let micros = i32::try_from(micros(time).unwrap_or(0)).unwrap_or(i32::MAX);
        sys::set_option(self.descriptor(), libc::SOL_SOCKET, libc::SO_BUSY_POLL, micros)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BufferSizes, bind_listener, bind_relay};
    use super::*;
    use crate::kernel::testing::with_capabilities;

    const TIME: Duration = Duration::from_micros(50);
    const NET_ADMIN: u32 = 12;
    const SIZES: BufferSizes = BufferSizes { receive: 1 << 20, send: 1 << 20 };

    fn granted(bound: &Bound) -> i32 {
        sys::option(bound.descriptor(), libc::SOL_SOCKET, libc::SO_BUSY_POLL).unwrap()
    }

    #[test]
    fn no_time_is_no_busy_polling() {
        let listener = bind_listener("127.0.0.1:0".parse().unwrap(), false, SIZES).unwrap();
        let before = granted(&listener);
        let poll = Poll::new().unwrap();
        let listeners = [listener];
        assert_eq!(busy_poll(&poll, &listeners, Duration::ZERO), BusyPolling::Off);
        assert_eq!(busy_poll(&poll, &listeners, Duration::from_nanos(999)), BusyPolling::Off);
        assert_eq!(granted(&listeners[0]), before);
    }

    #[test]
    fn listeners_and_relay_ports_are_polled_where_the_kernel_allows_it() {
        let address = "127.0.0.1:0".parse().unwrap();
        let sets = [&[][..], &[NET_ADMIN]];
        // one can only give up what one has
        for capabilities in sets.into_iter().take(1 + usize::from(is_privileged())) {
            let listeners = [bind_listener(address, false, SIZES).unwrap()];
            let relay = bind_relay(address, SIZES).unwrap();
            let before = granted(&relay);
            let poll = Poll::new().unwrap();
            let (done, port) = with_capabilities(capabilities, || {
                (busy_poll(&poll, &listeners, TIME), relay.set_busy_poll(TIME))
            });
            assert_eq!(done.is_on(), port.is_ok(), "{done:?}, {port:?}");
            let expected = if done.is_on() { 50 } else { before };
            assert_eq!((granted(&listeners[0]), granted(&relay)), (expected, expected));
            assert!(done.is_on() || done == BusyPolling::Refused(libc::EPERM), "{done:?}");
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_kept_for_the_log() {
        let error = |number| Err(io::Error::from_raw_os_error(number));
        let cases = [
            (Ok(()), Ok(()), BusyPolling::On),
            (Ok(()), error(libc::ENOTTY), BusyPolling::SocketsAlone),
            (error(libc::EPERM), Ok(()), BusyPolling::Refused(libc::EPERM)),
            (error(libc::ENOPROTOOPT), Ok(()), BusyPolling::Refused(libc::ENOPROTOOPT)),
        ];
        for (sockets, poller, expected) in cases {
            assert_eq!(outcome(sockets, || poller), expected);
        }
    }

    fn is_privileged() -> bool {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap() & (1 << NET_ADMIN) != 0
    }
}
