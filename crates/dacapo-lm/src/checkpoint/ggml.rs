//! The element types of GGML, by the ids that GGUF files use.

macro_rules! ggml_types {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $block:literal, $bytes:literal;)*) => {
        /// A GGML element type: plain numbers, or blocks of quantized ones.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types, reason = "the names are GGML's own")]
        pub enum GgmlType {
            $($(#[$doc])* $variant,)*
        }

        impl GgmlType {
            /// Every type.
            pub const ALL: &'static [GgmlType] = &[$(GgmlType::$variant,)*];

            /// The type with this id in a GGUF file.
            pub fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($id => Some(GgmlType::$variant),)*
                    _ => None,
                }
            }

            /// The id in a GGUF file.
            pub const fn id(self) -> u32 {
                match self {
                    $(GgmlType::$variant => $id,)*
                }
            }

            /// GGML's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(GgmlType::$variant => $name,)*
                }
            }

            /// Elements in a block.
            pub const fn block_size(self) -> usize {
                match self {
                    $(GgmlType::$variant => $block,)*
                }
            }

            /// Bytes of a block.
            pub const fn block_bytes(self) -> usize {
                match self {
                    $(GgmlType::$variant => $bytes,)*
                }
            }
        }
    };
}

// Ids, names and sizes as in ggml.h and ggml-common.h of the ggml project. Ids that are absent were withdrawn.
ggml_types! {
    /// IEEE 754 binary32.
    F32 = 0, "F32", 1, 4;
    /// IEEE 754 binary16.
    F16 = 1, "F16", 1, 2;
    /// 4 bits, one scale in 32.
    Q4_0 = 2, "Q4_0", 32, 18;
    /// 4 bits, scale and minimum in 32.
    Q4_1 = 3, "Q4_1", 32, 20;
    /// 5 bits, one scale in 32.
    Q5_0 = 6, "Q5_0", 32, 22;
    /// 5 bits, scale and minimum in 32.
    Q5_1 = 7, "Q5_1", 32, 24;
    /// 8 bits, one scale in 32.
    Q8_0 = 8, "Q8_0", 32, 34;
    /// 8 bits, scale and sum in 32.
    Q8_1 = 9, "Q8_1", 32, 40;
    /// 2 bits, super-blocks of 256.
    Q2_K = 10, "Q2_K", 256, 84;
    /// 3 bits, super-blocks of 256.
    Q3_K = 11, "Q3_K", 256, 110;
    /// 4 bits, super-blocks of 256.
    Q4_K = 12, "Q4_K", 256, 144;
    /// 5 bits, super-blocks of 256.
    Q5_K = 13, "Q5_K", 256, 176;
    /// 6 bits, super-blocks of 256.
    Q6_K = 14, "Q6_K", 256, 210;
    /// 8 bits, super-blocks of 256.
    Q8_K = 15, "Q8_K", 256, 292;
    /// 2.06 bits from a codebook.
    IQ2_XXS = 16, "IQ2_XXS", 256, 66;
    /// 2.31 bits from a codebook.
    IQ2_XS = 17, "IQ2_XS", 256, 74;
    /// 3.06 bits from a codebook.
    IQ3_XXS = 18, "IQ3_XXS", 256, 98;
    /// 1.56 bits from a codebook.
    IQ1_S = 19, "IQ1_S", 256, 50;
    /// 4 bits, non-linear, 32 in a block.
    IQ4_NL = 20, "IQ4_NL", 32, 18;
    /// 3.44 bits from a codebook.
    IQ3_S = 21, "IQ3_S", 256, 110;
    /// 2.5 bits from a codebook.
    IQ2_S = 22, "IQ2_S", 256, 82;
    /// 4.25 bits, non-linear, super-blocks of 256.
    IQ4_XS = 23, "IQ4_XS", 256, 136;
    /// Signed 8-bit integer.
    I8 = 24, "I8", 1, 1;
    /// Signed 16-bit integer.
    I16 = 25, "I16", 1, 2;
    /// Signed 32-bit integer.
    I32 = 26, "I32", 1, 4;
    /// Signed 64-bit integer.
    I64 = 27, "I64", 1, 8;
    /// IEEE 754 binary64.
    F64 = 28, "F64", 1, 8;
    /// 1.75 bits from a codebook.
    IQ1_M = 29, "IQ1_M", 256, 56;
    /// The upper half of a binary32.
    BF16 = 30, "BF16", 1, 2;
    /// Ternary, 1.69 bits.
    TQ1_0 = 34, "TQ1_0", 256, 54;
    /// Ternary, 2.06 bits.
    TQ2_0 = 35, "TQ2_0", 256, 66;
    /// OCP microscaling 4-bit float, 32 in a block.
    MXFP4 = 39, "MXFP4", 32, 17;
    /// 4-bit float with E4M3 scales, 64 in a block.
    NVFP4 = 40, "NVFP4", 64, 36;
    /// 1 bit, one scale in 128.
    Q1_0 = 41, "Q1_0", 128, 18;
}
