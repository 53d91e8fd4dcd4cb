//! Instructions of the kernel's virtual machine (BPF): as many as it takes to judge a packet.
//!
//! One function appends one instruction. Jumps go forward to labels that are placed later; the
//! numbers are those of the kernel's `bpf_common.h` and `bpf.h` (RFC 9669 describes them).

use std::os::fd::RawFd;

/// A register of the machine. `R0` is the result, `R1` to `R5` are arguments and lost in calls,
/// `R6` to `R9` are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(u8);

pub(super) const R1: Register = Register(1);
pub(super) const R2: Register = Register(2);
pub(super) const R3: Register = Register(3);
pub(super) const R4: Register = Register(4);
pub(super) const R5: Register = Register(5);
pub(super) const R6: Register = Register(6);
pub(super) const R0: Register = Register(0);

/// One instruction, as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u8,
    /// The destination in the lower four bits, the source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const _: () = assert!(size_of::<Instruction>() == 8);

#[cfg(test)]
impl Instruction {
    /// Code, destination, source, offset and immediate.
    pub(super) fn parts(self) -> (u8, usize, usize, i16, i32) {
        let (to, from) = (self.registers & 0xf, self.registers >> 4);
        (self.code, to.into(), from.into(), self.offset, self.immediate)
    }
}

/// How much a load reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Size {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
}

/// A place further on in the program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label(usize);

/// A program under construction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    instructions: Vec<Instruction>,
    /// Where each label stands, once it is placed.
    places: Vec<Option<usize>>,
    /// Which instructions jump where.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A label to jump to, which is to be placed later.
    pub(super) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Places a label before the next instruction.
    pub(super) fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.instructions.len());
    }

    /// `to = *(size *)(base + offset)`, filled up with zeroes.
    pub(super) fn load(&mut self, size: Size, to: Register, base: Register, offset: i16) {
        self.push(0x61 | size as u8, to, base, offset, 0);
    }

    /// `to = from`
    pub(super) fn copy(&mut self, to: Register, from: Register) {
        self.push(0xbf, to, from, 0, 0);
    }

    /// `to = value`
    pub(super) fn set(&mut self, to: Register, value: i32) {
        self.push(0xb7, to, R0, 0, value);
    }

    /// `to += value`
    pub(super) fn add(&mut self, to: Register, value: i32) {
        self.push(0x07, to, R0, 0, value);
    }

    /// `to -= value`, in 64 bits: below zero it is a very large number.
    pub(super) fn subtract(&mut self, to: Register, value: i32) {
        self.push(0x17, to, R0, 0, value);
    }

    /// `to &= value`
    pub(super) fn mask(&mut self, to: Register, value: i32) {
        self.push(0x57, to, R0, 0, value);
    }

    /// Reads the lower 16 bits as a number in network order.
    pub(super) fn swap_to_host_order(&mut self, register: Register) {
        self.push(0xdc, register, R0, 0, 16);
    }

    /// `to = the map behind a descriptor`; takes the room of two instructions.
    pub(super) fn load_map(&mut self, to: Register, map: RawFd) {
        const PSEUDO_MAP_FD: Register = Register(1);
        self.push(0x18, to, PSEUDO_MAP_FD, 0, map);
        self.push(0, R0, R0, 0, 0);
    }

    /// `if left > right goto label`
    pub(super) fn jump_if_above(&mut self, left: Register, right: Register, label: Label) {
        self.jump(0x2d, left, right, 0, label);
    }

    /// `if left >= value goto label`
    pub(super) fn jump_if_at_least(&mut self, left: Register, value: i32, label: Label) {
        self.jump(0x35, left, R0, value, label);
    }

    /// `if (u32)left != value goto label`
    pub(super) fn jump_if_not(&mut self, left: Register, value: u32, label: Label) {
        self.jump(0x56, left, R0, value.cast_signed(), label);
    }

    /// Calls a function of the kernel by its number.
    pub(super) fn call(&mut self, function: i32) {
        self.push(0x85, R0, R0, 0, function);
    }

    /// `return R0`
    pub(super) fn exit(&mut self) {
        self.push(0x95, R0, R0, 0, 0);
    }

    /// The finished program.
    ///
    /// # Panics
    /// If a label was jumped to and never placed, or not further on.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        for (from, label) in self.jumps {
            let to = self.places[label.0].expect("every label of a program is placed");
            let distance = to.checked_sub(from + 1).expect("jumps go forward");
            self.instructions[from].offset = i16::try_from(distance).expect("programs are short");
        }
        self.instructions
    }

    fn jump(&mut self, code: u8, left: Register, right: Register, value: i32, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.push(code, left, right, 0, value);
    }

    fn push(&mut self, code: u8, to: Register, from: Register, offset: i16, immediate: i32) {
        let registers = to.0 | from.0 << 4;
        self.instructions.push(Instruction { code, registers, offset, immediate });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(instruction: Instruction) -> [u8; 8] {
        let Instruction { code, registers, offset, immediate } = instruction;
        let [a, b] = offset.to_le_bytes();
        let [c, d, e, f] = immediate.to_le_bytes();
        [code, registers, a, b, c, d, e, f]
    }

    /// Against encodings as disassemblers print them.
    #[test]
    fn instructions_are_laid_out_as_the_kernel_reads_them() {
        let mut assembler = Assembler::default();
        assembler.load(Size::Word, R2, R1, 16); // r2 = *(u32 *)(r1 + 16)
        assembler.load(Size::Half, R5, R2, 12); // r5 = *(u16 *)(r2 + 12)
        assembler.load(Size::Byte, R5, R2, 23); // r5 = *(u8 *)(r2 + 23)
        assembler.copy(R6, R1); // r6 = r1
        assembler.set(R3, 2); // r3 = 2
        assembler.add(R4, 42); // r4 += 42
        assembler.subtract(R5, 4791); // r5 -= 4791
        assembler.mask(R5, 0xf0); // r5 &= 240
        assembler.swap_to_host_order(R5); // r5 = be16 r5
        assembler.load_map(R1, 9); // r1 = map 9
        assembler.call(51); // call bpf_redirect_map
        assembler.exit(); // exit
        let found: Vec<[u8; 8]> = assembler.finish().into_iter().map(bytes).collect();
        let expected = [
            [0x61, 0x12, 16, 0, 0, 0, 0, 0],
            [0x69, 0x25, 12, 0, 0, 0, 0, 0],
            [0x71, 0x25, 23, 0, 0, 0, 0, 0],
            [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
            [0xb7, 0x03, 0, 0, 2, 0, 0, 0],
            [0x07, 0x04, 0, 0, 42, 0, 0, 0],
            [0x17, 0x05, 0, 0, 0xb7, 0x12, 0, 0],
            [0x57, 0x05, 0, 0, 0xf0, 0, 0, 0],
            [0xdc, 0x05, 0, 0, 16, 0, 0, 0],
            [0x18, 0x11, 0, 0, 9, 0, 0, 0],
            [0; 8],
            [0x85, 0, 0, 0, 51, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn jumps_lead_to_their_labels() {
        let mut assembler = Assembler::default();
        let (near, far) = (assembler.label(), assembler.label());
        assembler.jump_if_above(R4, R3, far); // if r4 > r3 goto +3
        assembler.jump_if_not(R5, 0x8000_0001, near); // if w5 != 0x80000001 goto +0
        assembler.place(near);
        assembler.jump_if_at_least(R5, 8, far); // if r5 >= 8 goto +1
        assembler.exit();
        assembler.place(far);
        assembler.exit();
        let found: Vec<[u8; 8]> = assembler.finish().into_iter().map(bytes).collect();
        assert_eq!(found[0], [0x2d, 0x34, 3, 0, 0, 0, 0, 0]);
        assert_eq!(found[1], [0x56, 0x05, 0, 0, 1, 0, 0, 0x80]);
        assert_eq!(found[2], [0x35, 0x05, 1, 0, 8, 0, 0, 0]);
    }
}
