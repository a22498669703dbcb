//! A frame in a vector, to be rewritten by `wire`: the one thing here that knows it.

use wire::Plain;

/// A frame with room in front.
pub struct Buffer {
    bytes: Vec<u8>,
    head: usize,
}

impl Buffer {
    /// A copy of `frame` behind `headroom` bytes of 0xee.
    pub fn new(frame: &[u8], headroom: usize) -> Buffer {
        Buffer { bytes: [&vec![0xee; headroom], frame].concat(), head: headroom }
    }

    /// Bytes in front of the frame, as it is now.
    pub fn headroom(&self) -> usize {
        self.head
    }

    /// The frame as it is now.
    pub fn frame(&self) -> &[u8] {
        &self.bytes[self.head..]
    }
}

impl wire::Frame for Buffer {
    fn size(&self) -> usize {
        self.bytes.len() - self.head
    }
    fn at<T: Plain>(&self, offset: usize) -> Option<&T> {
        let bytes = self.bytes[self.head..].get(offset..)?;
        T::ref_from_prefix(bytes).ok().map(|(view, _)| view)
    }
    fn at_mut<T: Plain>(&mut self, offset: usize) -> Option<&mut T> {
        let bytes = self.bytes[self.head..].get_mut(offset..)?;
        T::mut_from_prefix(bytes).ok().map(|(view, _)| view)
    }
    fn move_head(&mut self, delta: i32) -> Option<()> {
        let head = self.head.checked_add_signed(delta as isize)?;
        (head <= self.bytes.len()).then(|| self.head = head)
    }
    fn trim_tail(&mut self, count: u32) -> Option<()> {
        let size = self.size().checked_sub(count as usize)?;
        self.bytes.truncate(self.head + size);
        Some(())
    }
}
