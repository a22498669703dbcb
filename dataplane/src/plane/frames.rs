//! AF_XDP queues on their way to workers: opened and closed by the [`Keeper`](crate::frames::Keeper).

use super::Dataplane;
use crate::batch::SocketId;
use crate::frames::Frames;
use crate::mailbox::Command;
use crate::route::PermissionHops;
use mio::Interest;
use mio::unix::SourceFd;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

impl Dataplane {
    /// Sets the next hops by which a permission's indications leave as frames; ignored where the
    /// permission is not published. Without any, or where no frame comes in, they leave by sockets.
    pub fn lead_permission(&mut self, peer: IpAddr, relay: SocketAddr, hops: PermissionHops) {
        self.permits.lead_permission(peer, relay, hops);
    }

    /// Workers that serve UDP clients.
    pub(crate) fn udp_workers(&self) -> usize {
        self.workers.iter().filter(|handle| handle.session.is_none()).count()
    }

    /// Gives AF_XDP queues to a worker that has none.
    ///
    /// # Errors
    /// Its poller refuses them; they are closed.
    pub(crate) fn give_frames(&mut self, worker: usize, frames: Box<Frames>) -> io::Result<()> {
        let handle = &mut self.workers[worker];
        for lane in &frames.lanes {
            let fd = lane.queue.as_fd().as_raw_fd();
            let token = mio::Token(SocketId::RELAYED.bits() as usize);
            handle.registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        }
        handle.mail.command(Command::Frames(frames));
        Ok(())
    }

    /// Asks a worker for its AF_XDP queues.
    pub(crate) fn ask_frames(&mut self, worker: usize) {
        self.workers[worker].mail.command(Command::AskFrames);
    }
}
