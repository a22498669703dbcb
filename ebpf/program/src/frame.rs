//! `wire`'s view of a frame, over the kernel's.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use core::{arch::asm, hint::assert_unchecked, ptr::NonNull};
use wire::{Frame, Plain};

/// The verifier follows packet offsets below 64 KiB only.
const FAR: usize = 0x3fff;

pub struct Xdp<'a>(pub &'a XdpContext);

/// Hides where a number came from, so that LLVM does not rearrange arithmetic that the verifier
/// must recognise.
#[inline(always)]
pub fn opaque(mut number: usize) -> usize {
    unsafe { asm!("/* {0} */", inout(reg) number, options(pure, nomem, nostack, preserves_flags)) };
    number
}

impl Xdp<'_> {
    #[inline(always)]
    fn locate<T>(&self, offset: usize) -> Option<NonNull<T>> {
        let start = self.0.data() + offset;
        if start + size_of::<T>() > self.0.data_end() {
            return None;
        }
        unsafe { assert_unchecked(start != 0) }; // else every view pays for a null check
        NonNull::new(start as *mut T)
    }
}

impl Frame for Xdp<'_> {
    #[inline(always)]
    fn size(&self) -> usize {
        // else LLVM narrows later arithmetic into 32-bit arithmetic on the two pointers
        opaque(self.0.data_end() - self.0.data())
    }

    #[inline(always)]
    fn at<T: Plain>(&self, offset: usize) -> Option<&T> {
        self.locate(offset).map(|view| unsafe { view.as_ref() })
    }

    #[inline(always)]
    fn at_mut<T: Plain>(&mut self, offset: usize) -> Option<&mut T> {
        self.locate(offset).map(|mut view| unsafe { view.as_mut() })
    }

    #[inline(always)]
    fn peek<T: Plain + Copy>(&self, offset: usize) -> Option<T> {
        // else the offset's own terms are merged into the pointer's, and the verifier refuses a
        // negative one
        let offset = opaque(offset);
        if offset > FAR { None } else { self.at(offset).copied() }
    }

    #[inline(always)]
    fn move_head(&mut self, delta: i32) -> Option<()> {
        let moved = unsafe { bpf_xdp_adjust_head(self.0.as_ptr().cast(), delta) };
        (moved == 0).then_some(())
    }

    #[inline(always)]
    fn trim_tail(&mut self, count: u32) -> Option<()> {
        let moved = unsafe { bpf_xdp_adjust_tail(self.0.as_ptr().cast(), -(count as i32)) };
        (moved == 0).then_some(())
    }
}
