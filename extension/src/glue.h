// Names of what is compiled more than once.
#ifndef SKIPML_GLUE_H
#define SKIPML_GLUE_H

#define GLUED(name, suffix) name##_##suffix
#define GLUE(name, suffix) GLUED(name, suffix)
#define INLINE static inline __attribute__((always_inline))

#endif
