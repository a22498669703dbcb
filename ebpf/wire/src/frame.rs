//! A frame seen through bounded, typed views.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Plain bytes with no alignment: what may be viewed inside a frame.
pub trait Plain: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned {}
impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned> Plain for T {}

/// One Ethernet frame, reached only through views that were checked against its end.
pub trait Frame {
    /// Bytes from head to tail.
    fn size(&self) -> usize;
    /// A view at `offset`, where the whole of `T` lies inside the frame.
    fn at<T: Plain>(&self, offset: usize) -> Option<&T>;
    /// The same, to write through.
    fn at_mut<T: Plain>(&mut self, offset: usize) -> Option<&mut T>;
    /// A copy from an offset that depends on the packet's contents.
    fn peek<T: Plain + Copy>(&self, offset: usize) -> Option<T> {
        self.at(offset).copied()
    }
    /// Moves the head: forward drops bytes, backward gains bytes of unknown content.
    fn move_head(&mut self, delta: i32) -> Option<()>;
    /// Drops `count` bytes from the end.
    fn trim_tail(&mut self, count: u32) -> Option<()>;
}
