//! Signatures: what a kernel does with each of its buffer arguments.

/// What a kernel does with a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads only.
    Read,
    /// Writes every byte, and reads none.
    Write,
    /// Reads and writes. Also what it is to write only a part: the rest keeps its value, which so flows through.
    ReadWrite,
}

impl Access {
    /// Whether the kernel may read the binding.
    pub const fn reads(self) -> bool {
        matches!(self, Access::Read | Access::ReadWrite)
    }

    /// Whether the kernel may write the binding.
    pub const fn writes(self) -> bool {
        matches!(self, Access::Write | Access::ReadWrite)
    }
}

/// One buffer argument in a kernel's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Name, for messages.
    pub name: &'static str,
    /// What the kernel does with it.
    pub access: Access,
}

impl Binding {
    /// A binding that is read.
    pub const fn read(name: &'static str) -> Self {
        Binding { name, access: Access::Read }
    }

    /// A binding that is overwritten, every byte of it.
    pub const fn write(name: &'static str) -> Self {
        Binding { name, access: Access::Write }
    }

    /// A binding that is read and written in place, or written in part.
    pub const fn read_write(name: &'static str) -> Self {
        Binding { name, access: Access::ReadWrite }
    }
}
