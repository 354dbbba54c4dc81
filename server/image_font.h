/* image_font.h: a font for labels on images. */
#ifndef BACKPROPD_IMAGE_FONT_H
#define BACKPROPD_IMAGE_FONT_H

enum { FONT_WIDTH = 5, FONT_HEIGHT = 7 };

/* The glyph of the first character of *text, which moves past it: FONT_HEIGHT rows of FONT_WIDTH
 * bits, the leftmost is the highest. Characters beyond ASCII are a box. NULL at the end. */
const unsigned char *font_next(const char **text);

#endif
