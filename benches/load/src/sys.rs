//! The system calls, each behind a safe wrapper: clocks, limits, signals, pinning, epoll and batched
//! UDP. No other file of this crate has `unsafe` code.

mod poll;
mod process;
mod receive;
mod send;
mod socket;

pub use poll::Poller;
pub use process::{
    clock_ticks_per_second, interrupted, monotonic, on_interrupt, open_files_limit, pin,
    precise_timers, raise_open_files, sleep_until, wall_clock,
};
pub use receive::ReceiveBatch;
pub use send::{Name, SendBatch};
pub use socket::{
    drops_of, enable_receive_offload, grow_buffers, is_bindable, udp_connected, udp_unconnected,
    wait_readable, wait_writable,
};
