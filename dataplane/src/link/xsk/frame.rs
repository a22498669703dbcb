//! The right to one frame of the packet memory, and the bytes in it.
//!
//! ```text
//!   0                               start          start + size      frame size
//!   | kernel's and our own headroom | packet ......| free            |
//!              <── move_start(-n)   | ──> move_start(n)
//! ```

use super::umem::Umem;
use wire::Plain;

/// One frame that belongs to whoever holds this, with the packet that lies in it.
///
/// It is neither `Copy` nor `Clone`, and made by the kernel's rings or [`Umem::take`] alone: it ends
/// in [`Umem::give`] or in a transmit ring. A frame that is dropped instead is lost until its
/// `Umem` goes: [`Umem::census`] counts it as held.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a frame that is dropped is lost: give it to its Umem, or transmit it"]
pub struct Frame {
    /// Of which memory.
    pub(super) umem: u32,
    /// Which of its frames.
    pub(super) number: u32,
    pub(super) start: u32,
    pub(super) size: u32,
    /// Bytes of the frame, headroom included.
    pub(super) room: u32,
}

impl Frame {
    /// Where the packet starts, in bytes from the frame's own start.
    pub fn start(&self) -> usize {
        self.start as usize
    }

    /// Bytes of the packet.
    pub fn size(&self) -> usize {
        self.size as usize
    }

    /// Bytes free in front of the packet.
    pub fn headroom(&self) -> usize {
        self.start as usize
    }

    /// Bytes free behind it.
    pub fn tailroom(&self) -> usize {
        (self.room - self.start - self.size) as usize
    }

    /// Moves the start: forward drops bytes, backward gains bytes of unknown content. `None`, and
    /// nothing moved, beyond the frame or behind the packet's end.
    pub fn move_start(&mut self, by: i32) -> Option<()> {
        let start = self.start.checked_add_signed(by)?;
        let size = (self.start + self.size).checked_sub(start)?;
        (self.start, self.size) = (start, size);
        Some(())
    }

    /// Makes the packet longer or shorter at its end. `None`, and nothing changed, where it would
    /// not fit the frame.
    pub fn set_size(&mut self, size: usize) -> Option<()> {
        let size = u32::try_from(size).ok()?;
        if size > self.room - self.start {
            return None;
        }
        self.size = size;
        Some(())
    }
}

/// The packet in a frame as the relay's rewriting sees it.
pub struct View<'a> {
    umem: &'a mut Umem,
    frame: &'a mut Frame,
}

impl Umem {
    /// The packet in `frame`, to be planned, rewritten and moved in place by `wire`.
    pub fn view<'a>(&'a mut self, frame: &'a mut Frame) -> View<'a> {
        View { umem: self, frame }
    }
}

impl View<'_> {
    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        self.umem.bytes(self.frame)
    }

    /// The packet, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.umem.bytes_mut(self.frame)
    }

    /// Gains `count` bytes of unknown content at the end. `None`, and nothing changed, where the frame
    /// has no room for them.
    pub fn extend(&mut self, count: usize) -> Option<()> {
        self.frame.set_size(self.frame.size() + count)
    }
}

impl wire::Frame for View<'_> {
    #[inline]
    fn size(&self) -> usize {
        self.frame.size()
    }

    #[inline]
    fn at<T: Plain>(&self, offset: usize) -> Option<&T> {
        let bytes = self.umem.bytes(self.frame).get(offset..)?;
        T::ref_from_prefix(bytes).ok().map(|(view, _)| view)
    }

    #[inline]
    fn at_mut<T: Plain>(&mut self, offset: usize) -> Option<&mut T> {
        let bytes = self.umem.bytes_mut(self.frame).get_mut(offset..)?;
        T::mut_from_prefix(bytes).ok().map(|(view, _)| view)
    }

    #[inline]
    fn move_head(&mut self, delta: i32) -> Option<()> {
        self.frame.move_start(delta)
    }

    #[inline]
    fn trim_tail(&mut self, count: u32) -> Option<()> {
        let size = self.frame.size.checked_sub(count)?;
        self.frame.size = size;
        Some(())
    }
}
