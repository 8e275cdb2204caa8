package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// imageLayers is how many layers the image of imageBench has.
const imageLayers = 12

// imageBench puts an image's layers into a store: ours side by side and one after
// another, the others as they do it.
func imageBench(ctx context.Context, s *session) error {
	l := s.layer("node")
	if l == nil {
		return nil
	}
	archives, err := l.pieces(ctx, imageLayers)
	if err != nil {
		return err
	}
	together, inTurn := fmt.Sprintf("image of %d layers", imageLayers),
		fmt.Sprintf("image of %d layers, one after another", imageLayers)
	for round := 0; round < s.rounds && !s.late(round); round++ {
		for _, work := range shuffled([]string{"image/shale", "inturn/shale", "image/storage", "image/containerd"}) {
			if err := s.fresh(s.largest(), func(dir string) error {
				for _, path := range archives {
					if err := readOnce(path); err != nil {
						return err
					}
				}
				how, who := filepath.Dir(work), filepath.Base(work)
				row := together
				if how == "inturn" {
					row = inTurn
				}
				_, err := s.do(ctx, how, who, input{Dir: dir, Archives: archives}, map[string]string{"image": row})
				return err
			}); err != nil {
				return err
			}
		}
		progress("image: round %d of %d", round+1, s.rounds)
	}
	return nil
}

// pieces cuts a layer into n, of about as many members each, and packs them as gzip.
func (l testLayer) pieces(ctx context.Context, n int) ([]string, error) {
	whole, err := l.file(ctx, ".tar")
	if err != nil {
		return nil, err
	}
	total := 0
	if err := eachMember(whole, func(*tar.Header, io.Reader) error { total++; return nil }); err != nil {
		return nil, err
	}
	var packed []string
	for i := range n {
		piece := testLayer{name: fmt.Sprintf("%s-%d-of-%d", l.name, i+1, n), about: "a piece of " + l.name,
			tar: func(path string) error {
				return cutTar(whole, path, total*i/n, total*(i+1)/n)
			}}
		path, err := piece.file(ctx, ".tar.gz")
		if err != nil {
			return nil, err
		}
		packed = append(packed, path)
	}
	return packed, nil
}

// cutTar writes the members from one index up to another into a tar of their own.
func cutTar(whole, path string, from, to int) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	i := 0
	err = eachMember(whole, func(h *tar.Header, content io.Reader) error {
		i++
		if i <= from || i > to {
			return nil
		}
		if h.Typeflag == tar.TypeLink { // its target may be in another piece
			return nil
		}
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.Copy(w, content)
		return err
	})
	return errors.Join(err, w.Close())
}

func eachMember(path string, do func(h *tar.Header, content io.Reader) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	for r := tar.NewReader(file); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(h, r); err != nil {
			return err
		}
	}
}
